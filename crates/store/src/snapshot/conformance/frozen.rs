//! Frozen layers: snapshots go on from them, others branch off, and begin again.

use super::{Subject, io, key, lines, must, prepare};
use crate::layer::UpperMode;
use crate::snapshot::PrepareOptions;

/// All checks of this file.
pub(super) fn all(subject: &Subject<'_>) {
    what_was_frozen_stays_and_the_snapshot_goes_on(subject);
    branches_do_not_see_each_other(subject);
    a_reset_brings_back_what_was(subject);
    a_frozen_copy_leaves_the_snapshot_alone(subject);
    changes_are_told_against_the_image(subject);
    freezing_nothing_makes_no_layer_twice(subject);
    any_number_of_freezes(subject);
}

fn what_was_frozen_stays_and_the_snapshot_goes_on(subject: &Subject<'_>) {
    let (from, branch) = (key("frozen"), key("frozen-branch"));
    let rootfs = prepare(subject, &from);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join("file"), "then"));
        io(std::fs::remove_file(root.join("dir/gone")));
        io(std::fs::remove_dir_all(root.join("other")));
        io(std::fs::create_dir(root.join("other")));
        io(std::fs::write(root.join("other/two"), "2"));
    });
    let before = lines(subject, &from);
    let layer = must(subject.driver.freeze(&from, UpperMode::Move));
    assert_eq!(lines(subject, &from), before, "freezing changes nothing that is seen");
    (subject.in_mounted)(&must(subject.driver.get(&from)), &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "then");
        io(std::fs::write(root.join("file"), "later"));
        io(std::fs::write(root.join("new"), "n"));
        io(std::fs::remove_file(root.join("other/two")));
    });
    let parent = Some(subject.parent);
    let rootfs = must(subject.driver.branch(&branch, layer.chain_id(), parent, &PrepareOptions::default()));
    (subject.in_mounted)(&rootfs, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "then");
        assert_eq!(io(std::fs::read_to_string(root.join("other/two"))), "2");
        assert!(!root.join("new").exists() && !root.join("dir/gone").exists());
        assert!(!root.join("other/one").exists());
    });
    assert_eq!(lines(subject, &branch), before);
    // Whoever stands on the layer keeps it.
    must(subject.driver.remove(&from));
    drop(layer);
    (subject.in_mounted)(&must(subject.driver.get(&branch)), &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "then");
    });
    must(subject.driver.remove(&branch));
}

fn branches_do_not_see_each_other(subject: &Subject<'_>) {
    let from = key("trunk");
    let rootfs = prepare(subject, &from);
    (subject.in_mounted)(&rootfs, &|root| io(std::fs::write(root.join("shared"), vec![7; 1 << 20])));
    let layer = must(subject.driver.freeze(&from, UpperMode::Move));
    let branches: Vec<_> = (0..3).map(|n| key(&format!("twig{n}"))).collect();
    for (n, branch) in branches.iter().enumerate() {
        let options = PrepareOptions { volatile: n == 1, ..PrepareOptions::default() };
        let rootfs = must(subject.driver.branch(branch, layer.chain_id(), Some(subject.parent), &options));
        (subject.in_mounted)(&rootfs, &|root| {
            io(std::fs::write(root.join("own"), n.to_string()));
            assert_eq!(io(std::fs::read(root.join("shared"))).len(), 1 << 20);
        });
    }
    for (n, branch) in branches.iter().enumerate() {
        let info = must(subject.driver.info(branch));
        assert_eq!(
            (info.parent.as_ref(), info.base.as_ref()),
            (Some(layer.chain_id()), Some(subject.parent))
        );
        (subject.in_mounted)(&must(subject.driver.get(branch)), &|root| {
            assert_eq!(io(std::fs::read_to_string(root.join("own"))), n.to_string());
        });
        assert_eq!(lines(subject, branch), ["A /own", "A /shared"]);
        must(subject.driver.remove(branch));
    }
    let usage = must(subject.driver.frozen_usage(layer.chain_id()));
    assert_eq!((usage.new.count, usage.size), (1, 1 << 20), "{usage:?}");
    must(subject.driver.remove(&from));
}

fn a_reset_brings_back_what_was(subject: &Subject<'_>) {
    let one = key("back");
    let rootfs = prepare(subject, &one);
    (subject.in_mounted)(&rootfs, &|root| io(std::fs::write(root.join("file"), "good")));
    let layer = must(subject.driver.freeze(&one, UpperMode::Move));
    for round in 0..3 {
        (subject.in_mounted)(&must(subject.driver.get(&one)), &|root| {
            assert_eq!(io(std::fs::read_to_string(root.join("file"))), "good", "round {round}");
            assert!(root.join("dir/kept").exists());
            io(std::fs::remove_dir_all(root.join("dir")));
            io(std::fs::write(root.join("file"), "bad"));
        });
        must(subject.driver.reset(&one, layer.chain_id()));
        assert_eq!(lines(subject, &one), ["C /file"]);
    }
    // Back to the image.
    must(subject.driver.reset(&one, subject.parent));
    drop(layer);
    assert_eq!(lines(subject, &one), Vec::<String>::new());
    assert_eq!(must(subject.driver.info(&one)).parent.as_ref(), Some(subject.parent));
    must(subject.driver.remove(&one));
}

fn a_frozen_copy_leaves_the_snapshot_alone(subject: &Subject<'_>) {
    let (from, branch) = (key("goes-on"), key("goes-on-branch"));
    let rootfs = prepare(subject, &from);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join("file"), "then"));
        // Of the image, which only metacopy allows.
        let _ = std::fs::rename(root.join("other"), root.join("moved"));
    });
    let before = must(subject.driver.info(&from));
    let layer = must(subject.driver.freeze(&from, UpperMode::Copy));
    assert_eq!(must(subject.driver.info(&from)), before);
    assert_eq!(must(subject.driver.get(&from)), rootfs);
    (subject.in_mounted)(&rootfs, &|root| io(std::fs::write(root.join("file"), "later")));
    let options = PrepareOptions::default();
    let rootfs = must(subject.driver.branch(&branch, layer.chain_id(), Some(subject.parent), &options));
    (subject.in_mounted)(&rootfs, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "then");
        let at = if root.join("moved").exists() { "moved" } else { "other" };
        assert_eq!(io(std::fs::read_to_string(root.join(at).join("one"))), "1");
        assert_eq!(root.join("other").exists(), at == "other");
    });
    must(subject.driver.remove(&from));
    must(subject.driver.remove(&branch));
}

fn changes_are_told_against_the_image(subject: &Subject<'_>) {
    let one = key("told");
    let rootfs = prepare(subject, &one);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join("made"), "m"));
        io(std::fs::write(root.join("file"), "1"));
        io(std::fs::remove_dir_all(root.join("other")));
    });
    drop(must(subject.driver.freeze(&one, UpperMode::Move)));
    (subject.in_mounted)(&must(subject.driver.get(&one)), &|root| {
        io(std::fs::remove_file(root.join("made")));
        io(std::fs::write(root.join("file"), "22"));
        io(std::fs::create_dir(root.join("dir/sub")));
    });
    drop(must(subject.driver.freeze(&one, UpperMode::Move)));
    (subject.in_mounted)(&must(subject.driver.get(&one)), &|root| {
        io(std::fs::write(root.join("dir/sub/x"), "x"));
        io(std::fs::create_dir(root.join("other")));
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "22");
    });
    let told = ["C /dir", "A /dir/sub", "A /dir/sub/x", "C /file", "C /other", "D /other/one"];
    assert_eq!(lines(subject, &one), told);
    // What is committed is all of that.
    let layer = must(subject.driver.commit(&one, UpperMode::Copy));
    let on_top = key("told-top");
    let rootfs = must(subject.driver.prepare(&on_top, Some(layer.chain_id()), &PrepareOptions::default()));
    (subject.in_mounted)(&rootfs, &|root| {
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "22");
        assert!(root.join("dir/sub/x").exists() && !root.join("made").exists());
        assert!(root.join("other").is_dir() && !root.join("other/one").exists());
    });
    must(subject.driver.remove(&one));
    must(subject.driver.remove(&on_top));
}

fn freezing_nothing_makes_no_layer_twice(subject: &Subject<'_>) {
    let one = key("nothing");
    prepare(subject, &one);
    let (first, second) = (
        must(subject.driver.freeze(&one, UpperMode::Move)),
        must(subject.driver.freeze(&one, UpperMode::Move)),
    );
    assert_eq!(lines(subject, &one), Vec::<String>::new());
    // A tree cannot tell that cheaply.
    if matches!(must(subject.driver.get(&one)), seacow_spec::shim::Rootfs::Overlay { .. }) {
        assert_eq!((first.chain_id(), second.chain_id()), (subject.parent, subject.parent));
    }
    must(subject.driver.remove(&one));
}

/// More than any file system stacks (overlayfs: 500): what is on top of what is merged some time.
fn any_number_of_freezes(subject: &Subject<'_>) {
    const ROUNDS: usize = 75;
    let one = key("many");
    prepare(subject, &one);
    for round in 0..ROUNDS {
        (subject.in_mounted)(&must(subject.driver.get(&one)), &|root| {
            io(std::fs::write(root.join(format!("f{round}")), round.to_string()));
            match round {
                3 => io(std::fs::remove_file(root.join("dir/gone"))),
                5 => io(std::fs::remove_dir_all(root.join("other"))),
                7 => {
                    io(std::fs::create_dir(root.join("other")));
                    io(std::fs::write(root.join("other/new"), "n"));
                }
                9 => io(std::fs::hard_link(root.join("f8"), root.join("linked"))),
                11 => io(std::fs::remove_file(root.join("f1"))),
                13 => io(std::fs::write(root.join("file"), "changed")),
                _ => {}
            }
        });
        let mode = if round % 10 == 4 { UpperMode::Copy } else { UpperMode::Move };
        let before = lines(subject, &one);
        drop(must(subject.driver.freeze(&one, mode)));
        assert_eq!(lines(subject, &one), before, "round {round}");
    }
    (subject.in_mounted)(&must(subject.driver.get(&one)), &|root| {
        for round in (0..ROUNDS).filter(|round| *round != 1) {
            assert_eq!(io(std::fs::read_to_string(root.join(format!("f{round}")))), round.to_string());
        }
        assert!(!root.join("f1").exists() && !root.join("dir/gone").exists());
        assert!(root.join("dir/kept").exists() && !root.join("other/one").exists());
        assert_eq!(io(std::fs::read_to_string(root.join("other/new"))), "n");
        assert_eq!(io(std::fs::read_to_string(root.join("linked"))), "8");
        assert_eq!(io(std::fs::read_to_string(root.join("file"))), "changed");
    });
    must(subject.driver.remove(&one));
}
