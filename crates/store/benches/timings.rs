//! `cargo bench -p seacow-store`: medians of what is on the way of starting and building. Needs root.
//! The first argument that is a path is where the stores are made (default: the temporary directory).
#![allow(clippy::unwrap_used, reason = "a measuring program: that is how it fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use seacow_spec::oci::image::ImageConfig;
use seacow_store::image::RemoveOptions;
use seacow_store::snapshot::{PrepareOptions, SnapshotKey};
use seacow_store::{Durability, Image, RecordKind, Store, StoreOptions, UpperMode};

fn main() {
    let place = std::env::args().skip(1).find(|arg| Path::new(arg).is_dir());
    let place = place.map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::Builder::new().prefix("seacow-bench-").tempdir_in(place).unwrap();
    let options = || StoreOptions::new(dir.path().join("data"), dir.path().join("exec"));
    let store = Store::open(options()).unwrap();
    let bb = image(&store, None, "bb", &tar(20, 100_000));
    let mut deep = bb.clone();
    for n in 0..19 {
        deep = image(&store, Some(&deep), &format!("deep:{n}"), &tar(1, n));
    }

    snapshots(&store, "1 layer", &bb);
    snapshots(&store, "20 layers", &deep);
    lookups(&store);
    commits(&store, &bb);
    records(&store);
    tars(&store);
    drop(store);
    measure("open with 20 images", 20, |_| drop(Store::open(options()).unwrap()));
}

fn measure(what: &str, rounds: usize, mut run: impl FnMut(usize)) {
    time(what, rounds, |round| {
        let began = Instant::now();
        run(round);
        began.elapsed()
    });
}

/// For runs that time only a part of what they do.
fn time(what: &str, rounds: usize, run: impl FnMut(usize) -> Duration) {
    let mut times: Vec<Duration> = (0..rounds).map(run).collect();
    times.sort();
    let at = |part: usize| times[(rounds - 1) * part / 100].as_secs_f64() * 1e6;
    println!("{what:44} p50 {:>10.1} µs   p90 {:>10.1} µs   ({rounds} rounds)", at(50), at(90));
}

fn tar(files: usize, size: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for n in 0..files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(size as u64);
        let mut content = vec![0; size];
        for (at, byte) in content.iter_mut().enumerate() {
            *byte = (at.wrapping_mul(n + 7) >> 3) as u8;
        }
        builder.append_data(&mut header, format!("dir{}/file{n}", n % 50), &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn image(store: &Store, parent: Option<&Image>, name: &str, tar: &[u8]) -> Image {
    let chain = parent.and_then(|parent| parent.chain.clone());
    let layer = store.layers().begin(chain.as_ref()).unwrap().apply_tar(tar).unwrap().commit(None).unwrap();
    let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    let parent = parent.map(|parent| &parent.id);
    let image = store.images().create_from_config(config, Some(layer.chain_id()), parent).unwrap();
    store.images().tag(&image.id, &name.parse().unwrap()).unwrap();
    store.images().resolve(name).unwrap()
}

fn key(what: &str, n: usize) -> SnapshotKey {
    format!("seacow-{what}-{n}").parse().unwrap()
}

fn snapshots(store: &Store, what: &str, image: &Image) {
    let driver = store.snapshots();
    let options = PrepareOptions::default();
    measure(&format!("prepare, {what}"), 500, |n| {
        driver.prepare(&key("p", n), image.chain.as_ref(), &options).unwrap();
    });
    measure(&format!("get, {what}"), 500, |n| drop(driver.get(&key("p", n)).unwrap()));
    measure(&format!("changes of nothing, {what}"), 500, |n| drop(driver.changes(&key("p", n)).unwrap()));
    measure(&format!("remove, {what}"), 500, |n| driver.remove(&key("p", n)).unwrap());
    let rootfs = driver.prepare(&key("m", 0), image.chain.as_ref(), &options).unwrap();
    measure(&format!("with_mounted, {what}"), 50, |_| store.with_mounted(&rootfs, &[], |_| ()).unwrap());
    driver.remove(&key("m", 0)).unwrap();
}

fn lookups(store: &Store) {
    measure("resolve by name", 1000, |_| drop(store.images().resolve("bb").unwrap()));
    measure("list 20 images", 1000, |_| drop(store.images().list()));
    store.images().resolve("host").unwrap();
    measure("resolve host, again", 200, |_| drop(store.images().resolve("host").unwrap()));
    store.remove_host_mask().unwrap();
}

/// The founding example's step: one small file changed.
fn commits(store: &Store, image: &Image) {
    let driver = store.snapshots();
    for (what, mode) in [("move", UpperMode::Move), ("copy", UpperMode::Copy)] {
        time(&format!("commit of one small file, {what}"), 200, |n| {
            let key = key(what, n);
            driver.prepare(&key, image.chain.as_ref(), &PrepareOptions::default()).unwrap();
            let upper = store.data_root().join("snapshots").join(key.as_str()).join("upper/file");
            std::fs::write(upper, format!("{what} {n}")).unwrap();
            let began = Instant::now();
            drop(driver.commit(&key, mode).unwrap());
            let elapsed = began.elapsed();
            driver.remove(&key).unwrap();
            elapsed
        });
    }
    let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    time("image from a config, and its removal", 200, |n| {
        let began = Instant::now();
        let config = ImageConfig { comment: n.to_string(), ..config.clone() };
        let made = store.images().create_from_config(config, image.chain.as_ref(), Some(&image.id)).unwrap();
        let elapsed = began.elapsed();
        store.images().remove(made.id.as_str(), RemoveOptions::default(), &|_| Vec::new()).unwrap();
        elapsed
    });
    store.layers().remove_unused().unwrap();
}

fn records(store: &Store) {
    let value = vec![b'x'; 4000];
    for (what, durability) in [("durable", Durability::Durable), ("unsynced", Durability::Unsynced)] {
        measure(&format!("put a record of 4 kB, {what}"), 500, |n| {
            let key = format!("{n:064}");
            store.records().put(RecordKind::Container, &key, value.clone(), durability).unwrap();
        });
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let value = &value;
            scope.spawn(move || {
                for n in 0..100 {
                    let key = format!("{worker:032}{n:032}");
                    let kind = RecordKind::Container;
                    store.records().put(kind, &key, value.clone(), Durability::Durable).unwrap();
                }
            });
        }
    });
    let each = began.elapsed().as_secs_f64() * 1e6 / 800.0;
    println!("{:44} each {each:>9.1} µs", "put a record of 4 kB, durable, 8 threads");
}

fn tars(store: &Store) {
    let large = tar(5000, 20_000);
    let megabytes = large.len() as f64 / 1e6;
    let packed = zstd::encode_all(&large[..], 1).unwrap();
    let mut chain = None;
    for (what, tar) in [("plain", &large), ("zstd", &packed)] {
        time(&format!("unpack {megabytes:.0} MB in 5000 files, {what}"), 3, |_| {
            let began = Instant::now();
            let draft = store.layers().begin(None).unwrap();
            let layer = draft.apply_tar(&tar[..]).unwrap().commit(None).unwrap();
            let elapsed = began.elapsed();
            chain = Some(layer.chain_id().clone());
            drop(layer);
            if what == "plain" {
                store.layers().remove_unused().unwrap();
            }
            elapsed
        });
    }
    let chain = chain.unwrap();
    measure(&format!("export {megabytes:.0} MB"), 5, |_| {
        store.layers().export(&chain, &mut std::io::sink()).unwrap();
    });
    let recipe = store.data_root().join("layers").join(chain.hex()).join("recipe");
    println!("{:44} {} bytes", "its recipe", std::fs::metadata(recipe).unwrap().len());
    store.layers().remove_unused().unwrap();
}
