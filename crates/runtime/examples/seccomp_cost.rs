//! What compiling and loading Docker's default filter costs: `cargo run --release --example seccomp_cost`.

use std::time::Instant;

use seacow_runtime::seccomp;
use seacow_spec::oci::runtime::Capabilities;
use seacow_spec::shim::SeccompChoice;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bounding = ["CAP_CHOWN", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_NET_RAW"].map(str::to_owned).to_vec();
    let caps = Capabilities { bounding, ..Capabilities::default() };
    let mut times = Vec::new();
    for _ in 0..20 {
        let t = Instant::now();
        let filter = seccomp::prepare(&SeccompChoice::Default, Some(&caps))?.ok_or("no filter")?;
        let compiled = t.elapsed();
        let t = Instant::now();
        // Filters add up, and each makes the next load a little slower; threads start afresh.
        let loaded = std::thread::spawn(move || {
            let start = Instant::now();
            seacow_sys::seccomp::load(&filter.program, filter.flags)
                .map(|()| (start.elapsed(), filter.program.len()))
        })
        .join()
        .map_err(|_| "thread")??;
        times.push((compiled, loaded, t.elapsed()));
    }
    times.sort();
    let (compiled, (loaded, len), _) = times[times.len() / 2];
    println!("{len} instructions, compile {compiled:?}, load {loaded:?}");
    Ok(())
}
