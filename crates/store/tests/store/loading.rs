//! Layers of an archive are unpacked where they come, before anybody knows what they stand on.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use seacow_store::{Limits, Store, digest};

use crate::common::{Tar, TestStore, is_root};
use crate::disks::Disk;

/// An archive as `docker save` writes it: layers first, what they are at the end.
fn archive(images: &[(&str, &[&[u8]])]) -> Vec<u8> {
    let (mut out, mut items) = (Tar::new(), Vec::new());
    for (name, layers) in images {
        let ids: Vec<String> = layers.iter().map(|layer| digest(layer).to_string()).collect();
        for (layer, id) in layers.iter().zip(&ids) {
            out = out.file(&format!("blobs/sha256/{}", &id["sha256:".len()..]), layer);
        }
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "author": name,
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let at = format!("blobs/sha256/{}", &digest(&config).to_string()["sha256:".len()..]);
        out = out.file(&at, &config);
        let layers: Vec<String> =
            ids.iter().map(|id| format!("blobs/sha256/{}", &id["sha256:".len()..])).collect();
        items.push(serde_json::json!({ "Config": at, "RepoTags": [name], "Layers": layers }));
    }
    out.file("manifest.json", serde_json::to_vec(&items).unwrap()).bytes()
}

fn mode(store: &TestStore, image: &str, path: &str) -> u32 {
    let chain = store.images().resolve(image).unwrap().chain.unwrap();
    let path = store.data().join("layers").join(chain.hex()).join("fs").join(path);
    std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777
}

fn exports(store: &Store, image: &str) -> Vec<Vec<u8>> {
    let chain = store.images().resolve(image).unwrap().chain.unwrap();
    let export = |chain| {
        let mut tar = Vec::new();
        store.layers().export(chain, &mut tar).unwrap();
        tar
    };
    store.layers().stack(&chain).unwrap().iter().rev().map(|layer| export(&layer.chain_id)).collect()
}

/// What a layer leaves to those below looks as if it had been unpacked on top of them.
#[test]
fn a_layer_finds_its_parent_afterwards() {
    if !is_root("a_layer_finds_its_parent_afterwards") {
        return;
    }
    let store = TestStore::new();
    let base = Tar::new().dir("./", 0o711).dir("d/", 0o700).file("d/a", "a").file("gone", "x").bytes();
    let other = Tar::new().dir("./", 0o755).dir("d/", 0o751).bytes();
    // Nothing of the layers below is needed; their directory is implied; they are hidden.
    let plain = Tar::new().file("plain", "p").bytes();
    let implied = Tar::new().file("d/b", "b").bytes();
    let hiding = Tar::new().file(".wh..wh..opq", "").file("new", "n").bytes();
    let loaded = archive(&[
        ("plain", &[&base, &plain]),
        ("implied", &[&base, &implied]),
        ("hiding", &[&base, &hiding]),
        ("other", &[&other, &implied]),
    ]);
    let names = store.images().load(&loaded[..], |_| {}).unwrap();
    assert_eq!(names.len(), 4);
    assert_eq!(mode(&store, "plain", ""), 0o711);
    assert_eq!((mode(&store, "implied", ""), mode(&store, "implied", "d")), (0o711, 0o700));
    assert_eq!((mode(&store, "other", ""), mode(&store, "other", "d")), (0o755, 0o751));
    let hidden = store.images().resolve("hiding").unwrap().chain;
    let key = "seacow-hidden".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, hidden.as_ref(), &Default::default()).unwrap();
    store.in_mounted(&rootfs, &|root| {
        assert!(root.join("new").exists() && !root.join("gone").exists() && !root.join("d").exists());
    });
    store.snapshots().remove(&key).unwrap();
    assert!(exports(&store, "implied") == [base.clone(), implied.clone()]);
    assert!(exports(&store, "other") == [other, implied]);
    assert!(exports(&store, "hiding") == [base, hiding]);
    assert!(store.names("drafts").is_empty() && store.names("trash").is_empty());
    // Once more: everything is known by its name.
    assert_eq!(store.images().load(&loaded[..], |_| {}).unwrap(), names);
    assert_eq!(store.names("layers").len(), 6);
}

/// A blob that only claims to be a known layer is that layer, whatever is in it.
#[test]
fn a_false_name_gets_what_it_says() {
    if !is_root("a_false_name_gets_what_it_says") {
        return;
    }
    let store = TestStore::new();
    let (good, top) = (Tar::new().file("f", "good").bytes(), Tar::new().file("top", "t").bytes());
    store.images().load(&archive(&[("good", &[&good])])[..], |_| {}).unwrap();
    let mut forged = archive(&[("forged", &[&top, &good])]);
    let at = forged.windows(4).rposition(|bytes| bytes == b"good" && bytes != b"name").unwrap();
    // The content of the file in the layer, not the image's name.
    let content = forged.windows(4).position(|bytes| bytes == b"good").unwrap().min(at);
    forged[content..content + 4].copy_from_slice(b"evil");
    store.images().load(&forged[..], |_| {}).unwrap();
    assert!(exports(&store, "forged") == [top, good]);
}

/// One that is no layer at all is refused when an image wants it, and with it only this image.
#[test]
fn what_is_broken_is_refused_when_it_is_wanted() {
    if !is_root("what_is_broken_is_refused_when_it_is_wanted") {
        return;
    }
    let store = TestStore::new();
    let good = Tar::new().file("f", "f").bytes();
    let climbing = Tar::new().raw("../evil", None, tar::EntryType::Regular).bytes();
    let mut loaded = Vec::new();
    let error = store
        .images()
        .load(&archive(&[("good", &[&good]), ("evil", &[&good, &climbing])])[..], |image| {
            loaded.push(image.names[0].familiar());
        })
        .unwrap_err();
    assert!(error.to_string().contains("leads out of the root"), "{error}");
    assert_eq!(loaded, ["good:latest"]);
    assert!(store.images().resolve("evil").is_err());
    assert!(store.names("drafts").is_empty());
    assert_eq!(store.names("layers").len(), 1);
    // The stream ends within a layer.
    let cut = archive(&[("cut", &[&Tar::new().file("big", vec![7; 100_000]).bytes()])]);
    let error = store.images().load(&cut[..50_000], |_| {}).unwrap_err();
    assert!(error.to_string().contains("ends in the middle"), "{error}");
    assert!(store.names("drafts").is_empty() && store.names("trash").is_empty());
}

/// There is room for a layer once, not twice.
#[test]
fn a_layer_is_written_once() {
    if !is_root("a_layer_is_written_once") {
        return;
    }
    const BIG: u64 = 60 << 20;
    Disk::Ext4.with_size(110 << 20, |dir| {
        let mut store = TestStore::at(dir, None);
        let mut options = store.options();
        options.limits = Limits { reserve: 4 << 20, ..Limits::default() };
        store.store = None;
        store.store = Some(std::sync::Arc::new(Store::open(options).unwrap()));
        let mut noise = Vec::new();
        std::fs::File::open("/dev/urandom").unwrap().take(BIG).read_to_end(&mut noise).unwrap();
        let layer = Tar::new().file("big", noise).bytes();
        let loaded = archive(&[("big", &[&layer])]);
        store.images().load(&loaded[..], |_| {}).unwrap();
        assert!(store.images().resolve("big").unwrap().size >= BIG);
    });
}
