//! Reaping whoever has ended. Alone in its process: it takes the children of every thread.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

use std::process::Command;

use seacow_sys::command::take_foreground;
use seacow_sys::process::try_wait_any;

#[test]
fn a_child_of_another_process_group_is_reaped_as_well() {
    let mut command = Command::new("sh");
    take_foreground(command.args(["-c", "exit 4"]));
    let pid = i32::try_from(command.spawn().unwrap().id()).unwrap();
    loop {
        match try_wait_any() {
            Ok(Some((ended, how))) if ended == pid => return assert_eq!(how.code(), 4),
            Ok(_) => std::thread::yield_now(),
            Err(errno) => panic!("{errno}"),
        }
    }
}
