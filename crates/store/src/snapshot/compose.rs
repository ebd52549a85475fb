//! What several layers changed, one upon the other, as what differs from the lowest.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::ChangeKind;
use super::changes::Kinds;
use crate::error::{At, IoFailure};
use crate::fsutil::lower::Lowers;

/// Puts steps together, lowest first, each told against what is below it; `base` is what the first of
/// them is told against.
pub(super) fn compose(steps: Vec<Kinds>, base: &mut Lowers) -> Result<Kinds, IoFailure> {
    let mut all = Kinds::new();
    // Directories of the base that were gone and are there again.
    let mut reborn: Vec<PathBuf> = Vec::new();
    for step in steps {
        for (path, kind) in step {
            let below = base.find(&path).at("look below at", &path)?;
            match (kind, below) {
                (ChangeKind::Deleted, below) => {
                    forget_inside(&mut all, &path);
                    if below.is_some() {
                        all.insert(path, ChangeKind::Deleted);
                    } else {
                        all.remove(&path);
                    }
                }
                (ChangeKind::Added, Some(below)) => {
                    if below.is_dir() {
                        reborn.push(path.clone());
                    }
                    all.insert(path, ChangeKind::Modified);
                }
                (ChangeKind::Added, None) => drop(all.insert(path, ChangeKind::Added)),
                (ChangeKind::Modified, Some(_)) => drop(all.insert(path, ChangeKind::Modified)),
                // New since the base, and still.
                (ChangeKind::Modified, None) => drop(all.entry(path).or_insert(ChangeKind::Added)),
            }
        }
    }
    for path in reborn {
        if all.get(&path) == Some(&ChangeKind::Modified) {
            hidden(&mut all, &path, base)?;
        }
    }
    Ok(all)
}

/// What a directory that was made anew has no more.
fn hidden(all: &mut Kinds, path: &Path, base: &mut Lowers) -> Result<(), IoFailure> {
    for name in base.names(path).at("look below at", path)? {
        all.entry(path.join(name)).or_insert(ChangeKind::Deleted);
    }
    Ok(())
}

fn forget_inside(all: &mut Kinds, path: &Path) {
    let after = (Bound::Excluded(path.to_owned()), Bound::Unbounded);
    let inside = all.range::<PathBuf, _>(after).map(|(at, _)| at.clone());
    let inside: Vec<PathBuf> = inside.take_while(|at| at.starts_with(path)).collect();
    for at in inside {
        all.remove(&at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsutil::lower::LowerDir;

    fn step(lines: &[&str]) -> Kinds {
        let kind = |letter: &str| match letter {
            "A" => ChangeKind::Added,
            "D" => ChangeKind::Deleted,
            _ => ChangeKind::Modified,
        };
        lines.iter().map(|line| (PathBuf::from(&line[2..]), kind(&line[..1]))).collect()
    }

    fn of(steps: &[&[&str]]) -> Vec<String> {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("dir/sub")).unwrap();
        std::fs::write(base.path().join("dir/file"), "").unwrap();
        std::fs::write(base.path().join("top"), "").unwrap();
        let mut lowers = Lowers::new(vec![LowerDir::layer(base.path().to_owned())]);
        let kinds = compose(steps.iter().map(|lines| step(lines)).collect(), &mut lowers).unwrap();
        kinds.iter().map(|(path, kind)| format!("{} {}", kind.letter(), path.display())).collect()
    }

    #[test]
    fn steps_add_up() {
        assert_eq!(of(&[&["A new", "C top"], &["C new"]]), ["A new", "C top"]);
        // Made and unmade.
        assert_eq!(of(&[&["A new", "A new/x"], &["D new"]]), Vec::<String>::new());
        assert_eq!(of(&[&["C dir", "A dir/x"], &["D dir"]]), ["D dir"]);
        assert_eq!(of(&[&["D top"], &["A top"]]), ["C top"]);
        assert_eq!(of(&[&["D dir"], &["A dir", "A dir/file"]]), ["C dir", "C dir/file", "D dir/sub"]);
        // `dir.x` comes between `dir` and `dir/x` as text, not as paths.
        assert_eq!(of(&[&["A dir.x", "A dir/y", "C dir"], &["D dir"]]), ["D dir", "A dir.x"]);
    }
}
