//! The `host` image: this machine's root as a lower layer.

use std::path::Path;

use seacow_spec::shim::{Lower, Rootfs};
use seacow_spec::{Classified, ErrorClass};
use seacow_store::UpperMode;
use seacow_store::image::RemoveOptions;

use crate::common::{TestStore, is_root};

#[test]
fn the_machine_is_an_image() {
    if !is_root("the_machine_is_an_image") {
        return;
    }
    let mut store = TestStore::new();
    let host = store.images().resolve("host").unwrap();
    assert!(host.on_host);
    assert_eq!(host.repo_tags(), ["host:latest"]);
    assert_eq!(host.size, 0);
    assert_eq!(store.images().resolve("host").unwrap().id, host.id, "the same as long as packages are");
    let config = host.config.config.as_ref().unwrap();
    assert!(config.env.as_ref().unwrap()[0].starts_with("PATH="));

    let key = "seacow-host".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, host.chain.as_ref(), &Default::default()).unwrap();
    assert!(matches!(&rootfs, Rootfs::Overlay { lowers, .. } if matches!(lowers[0], Lower::HostView { .. })));
    let secret = store.data();
    store.in_mounted(&rootfs, &|root| {
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap());
        assert!(inside(Path::new("/bin/sh")).exists() || inside(Path::new("/usr/bin/sh")).exists());
        let own = std::fs::read("/etc/passwd").unwrap();
        assert_eq!(std::fs::read(inside(Path::new("/etc/passwd"))).unwrap(), own);
        // The store itself is not in it (it lies below /tmp here, which is empty as a whole).
        assert!(!inside(&secret).join("meta.redb").exists());
        for hidden in ["tmp", "var/tmp", "proc", "sys"] {
            assert_eq!(std::fs::read_dir(root.join(hidden)).unwrap().count(), 0, "{hidden}");
        }
        std::fs::write(root.join("etc/seacow-made-here"), "x").unwrap();
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        std::fs::write(root.join("tmp/t"), "t").unwrap();
    });
    assert!(Path::new("/etc/passwd").exists() && !Path::new("/etc/seacow-made-here").exists());
    let lines: Vec<_> = store.snapshots().changes(&key).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["C /etc", "D /etc/passwd", "A /etc/seacow-made-here", "C /tmp", "A /tmp/t"]);

    // Steps on top of it.
    let layer = store.snapshots().commit(&key, UpperMode::Move).unwrap();
    store.snapshots().remove(&key).unwrap();
    let mut config = (*host.config).clone();
    config.rootfs.diff_ids.clear();
    let built = store.images().create_from_config(config, Some(layer.chain_id()), Some(&host.id)).unwrap();
    store.images().tag(&built.id, &"on-host".parse().unwrap()).unwrap();
    drop(layer);
    store.open();
    let rootfs = store.snapshots().prepare(&key, built.chain.as_ref(), &Default::default()).unwrap();
    store.in_mounted(&rootfs, &|root| {
        assert_eq!(std::fs::read_to_string(root.join("etc/seacow-made-here")).unwrap(), "x");
        assert!(!root.join("etc/passwd").exists());
        assert_eq!(std::fs::read(root.join("etc/group")).unwrap(), std::fs::read("/etc/group").unwrap());
    });

    // It belongs here.
    for name in ["host", "on-host"] {
        let mut out = Vec::new();
        let error = store.images().save(&[name], &mut out).unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotImplemented);
        assert!(error.to_string().contains(name) && error.to_string().contains("export"), "{error}");
        assert!(out.is_empty());
    }
    let remove = |name: &str| {
        let options = RemoveOptions { force: true, no_prune: false };
        store.images().remove(name, options, &|_| Vec::new())
    };
    assert_eq!(remove("host").unwrap_err().class(), ErrorClass::Forbidden);
    assert!(store.images().untag(&"host".parse().unwrap()).is_err());
    store.snapshots().remove(&key).unwrap();
    assert_eq!(remove("on-host").unwrap().len(), 3);
    assert!(store.names("layers").is_empty());
    assert!(store.images().resolve("host").is_ok());
}

#[test]
fn the_mask_is_made_once_and_can_be_removed() {
    if !is_root("the_mask_is_made_once_and_can_be_removed") {
        return;
    }
    let store = TestStore::new();
    let mask = || {
        let host = store.images().resolve("host").unwrap();
        match store.snapshots().view(host.chain.as_ref()).unwrap() {
            Rootfs::Overlay { lowers, upper: None } => match &lowers[0] {
                Lower::HostView { mask, root } => {
                    assert_eq!(root, Path::new("/"));
                    mask.clone()
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    let first = mask();
    assert_eq!(first, mask());
    assert!(first.join("tmp").is_dir());
    store.remove_host_mask().unwrap();
    assert!(!first.exists());
    assert_eq!(mask(), first);
    assert!(first.join("tmp").is_dir());
}
