//! `cargo bench -p seacow-store --bench layers -- DIR BYTES TAR…`: each packed tar inflated alone and applied
//! as a layer, and a hundred snapshots of an image with one file of so many bytes. Needs root.
//!
//! Prints `what: number unit` lines; `cargo xtask bench storage` reads them.
#![allow(clippy::unwrap_used, reason = "a measuring program: that is how it fails")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use seacow_spec::oci::image::ImageConfig;
use seacow_store::snapshot::{PrepareOptions, SnapshotKey};
use seacow_store::{Store, StoreOptions, unpack};

const ROUNDS: usize = 5;
const SNAPSHOTS: usize = 100;

fn main() {
    // Cargo adds `--bench` of its own.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some(dir), Some(bytes)) = (args.next(), args.next().and_then(|text| text.parse().ok())) else {
        println!("which directory, how many bytes? nothing was measured");
        return;
    };
    let home = tempfile::Builder::new().prefix("seacow-bench-").tempdir_in(dir).unwrap();
    let store = Store::open(StoreOptions::new(home.path().join("data"), home.path().join("exec"))).unwrap();
    for tar in args {
        packed(&store, Path::new(&tar));
    }
    hundred(&store, bytes);
}

/// Milliseconds, the median.
fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn milliseconds(run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    began.elapsed().as_secs_f64() * 1e3
}

fn packed(store: &Store, tar: &Path) {
    let kind = tar.extension().unwrap().to_string_lossy().into_owned();
    let inflated = median(|| {
        milliseconds(|| {
            let mut reader = unpack(File::open(tar).unwrap()).unwrap();
            let mut buffer = vec![0; 128 << 10];
            while reader.read(&mut buffer).unwrap() > 0 {}
        })
    });
    let (mut placed, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let unpacked = store.layers().begin(None).unwrap().apply_tar(File::open(tar).unwrap()).unwrap();
        placed.push(began.elapsed().as_secs_f64() * 1e3);
        drop(unpacked.commit(None).unwrap());
        whole.push(began.elapsed().as_secs_f64() * 1e3);
        store.layers().remove_unused().unwrap();
        store.settle();
    }
    for times in [&mut placed, &mut whole] {
        times.sort_by(f64::total_cmp);
    }
    println!("inflate {kind}: {inflated:.1} ms");
    println!("apply {kind}: {:.1} ms", placed[ROUNDS / 2]);
    println!("apply {kind} and have it on the disk: {:.1} ms", whole[ROUNDS / 2]);
}

fn hundred(store: &Store, bytes: u64) {
    let mut header = tar::Header::new_ustar();
    header.set_path("large").unwrap();
    header.set_mode(0o644);
    header.set_size(bytes);
    header.set_cksum();
    let stream = header.as_bytes().chain(std::io::repeat(0x5a).take(bytes)).chain(&[0u8; 1024][..]);
    let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    let image = store.images().import(stream, config).unwrap();
    let options = PrepareOptions::default();
    let keys = |round: usize| {
        (0..SNAPSHOTS).map(move |n| format!("seacow-{round}-{n}").parse::<SnapshotKey>().unwrap())
    };
    let mut round = 0;
    let used = || {
        store.settle();
        store.sync_snapshots().unwrap();
        store.census().unwrap().total()
    };
    let before = used();
    let mut taken = 0;
    let time = median(|| {
        round += 1;
        let time = milliseconds(|| {
            for key in keys(round) {
                store.snapshots().prepare(&key, image.chain.as_ref(), &options).unwrap();
            }
        });
        taken = used() - before;
        for key in keys(round) {
            store.snapshots().remove(&key).unwrap();
        }
        store.settle();
        time
    });
    println!("{SNAPSHOTS} snapshots: {time:.2} ms");
    println!("{SNAPSHOTS} snapshots, MB: {:.3}", taken as f64 / 1e6);
}
