//! Many threads at once.

use std::sync::atomic::{AtomicBool, Ordering};

use seacow_spec::oci::image::ImageConfig;
use seacow_store::image::{NewImage, RemoveOptions};
use seacow_store::snapshot::PrepareOptions;
use seacow_store::{Durability, RecordKind, UpperMode};

use crate::common::{Tar, TestStore, image, is_root};

#[test]
fn builds_removals_and_containers_do_not_step_on_each_other() {
    if !is_root("builds_removals_and_containers_do_not_step_on_each_other") {
        return;
    }
    let mut store = TestStore::new();
    let bb = image(&store, "bb", &Tar::new().file("f", "f").bytes());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, bb, stop) = (&store, &bb, &stop);
        let builders: Vec<_> = (0..6)
            .map(|worker: usize| {
                scope.spawn(move || {
                    for round in 0..25 {
                        // Two workers each make the same content, to meet in the middle.
                        let content = format!("{} {round}", worker / 2);
                        let draft = store.layers().begin(bb.chain.as_ref()).unwrap();
                        let tar = Tar::new().file("x", &content).bytes();
                        let layer = draft.apply_tar(&tar[..]).unwrap().commit(None).unwrap();
                        let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
                        config.comment = format!("{worker}");
                        config.rootfs.diff_ids = store.layers().diff_ids(Some(layer.chain_id())).unwrap();
                        let new = NewImage::from_config(
                            &config,
                            Some(layer.chain_id().clone()),
                            Some(bb.id.clone()),
                        );
                        let image = store.images().create(new).unwrap();
                        drop(layer);
                        let name = format!("work{worker}:{round}").parse().unwrap();
                        store.images().tag(&image.id, &name).unwrap();
                        let key = format!("seacow-{worker}-{round}").parse().unwrap();
                        let options = PrepareOptions::default();
                        store.snapshots().prepare(&key, image.chain.as_ref(), &options).unwrap();
                        let upper = store.data_root().join("snapshots").join(key.as_str()).join("upper/y");
                        std::fs::write(upper, &content).unwrap();
                        let layer = store.snapshots().commit(&key, UpperMode::Move).unwrap();
                        store.layers().export(layer.chain_id(), &mut std::io::sink()).unwrap();
                        store.snapshots().remove(&key).unwrap();
                        let answer =
                            store
                                .images()
                                .remove(&name.familiar(), RemoveOptions::default(), &|_| Vec::new());
                        assert!(answer.unwrap().len() >= 2);
                        store
                            .records()
                            .put(
                                RecordKind::Container,
                                key.as_str(),
                                content.into_bytes(),
                                Durability::Durable,
                            )
                            .unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                store.layers().remove_unused().unwrap();
                for image in store.images().list() {
                    store.images().resolve(image.id.as_str()).ok();
                }
            }
        });
        let results: Vec<_> = builders.into_iter().map(|builder| builder.join()).collect();
        stop.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert_eq!(store.records().all(RecordKind::Container).unwrap().len(), 150);
    store.layers().remove_unused().unwrap();
    assert_eq!(store.names("layers").len(), 1);
    assert_eq!(store.images().list().len(), 1);
    for dir in ["drafts", "trash", "snapshots"] {
        assert!(store.names(dir).is_empty(), "{dir}");
    }
    store.open();
    assert_eq!(store.images().resolve("bb").unwrap().id, bb.id);
}
