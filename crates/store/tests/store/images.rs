//! Names, removal by dockerd's rules, save and load, hostile image archives.

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::docker::image::ImageDeleted;
use seacow_spec::oci::image::{History, ImageConfig};
use seacow_spec::{Classified, Digest, ErrorClass, Reference, Timestamp};
use seacow_store::image::{Image, ImageUser, NewImage, RemoveOptions};
use seacow_store::{Durability, ImageError, Store, digest};

use crate::common::{Tar, TestStore, image, is_root};

const FORCE: RemoveOptions = RemoveOptions { force: true, no_prune: false };
const PLAIN: RemoveOptions = RemoveOptions { force: false, no_prune: false };

fn nobody(_: &Digest) -> Vec<ImageUser> {
    Vec::new()
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

/// A build step on top of an image: another config, another layer when there is content.
fn step(store: &Store, parent: &Image, what: &str, content: Option<&str>) -> Image {
    let layer = content.map(|content| {
        let draft = store.layers().begin(parent.chain.as_ref()).unwrap();
        draft.apply_tar(&Tar::new().file(what, content).bytes()[..]).unwrap().commit(None).unwrap()
    });
    let mut config = (*parent.config).clone();
    config.history.push(History {
        created: Some(Timestamp::from_unix(1_700_000_000, 0)),
        created_by: format!("RUN {what}"),
        empty_layer: layer.is_none(),
        ..History::default()
    });
    let chain = layer.as_ref().map(|layer| layer.chain_id()).or(parent.chain.as_ref());
    store.images().create_from_config(config, chain, Some(&parent.id)).unwrap()
}

#[test]
fn found_by_name_id_and_the_beginning_of_an_id() {
    if !is_root("found_by_name_id_and_the_beginning_of_an_id") {
        return;
    }
    let store = TestStore::new();
    let one = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    let two = image(&store, "localhost:5000/x/bb:v2", &Tar::new().file("a", "2").bytes());
    let images = store.images();
    let shortest = (1..64).find(|len| one.id.hex()[..*len] != two.id.hex()[..*len]).unwrap();
    for text in [
        "bb",
        "bb:latest",
        "docker.io/library/bb:latest",
        one.id.as_str(),
        one.id.hex(),
        one.id.short(),
        &one.id.hex()[..shortest],
        &one.id.as_str()[..7 + shortest],
    ] {
        assert_eq!(images.resolve(text).unwrap().id, one.id, "{text}");
    }
    assert_eq!(images.resolve("localhost:5000/x/bb:v2").unwrap().repo_tags(), ["localhost:5000/x/bb:v2"]);
    for (text, message) in [("nosuch", "No such image: nosuch:latest"), ("bb:v2", "No such image: bb:v2")] {
        let error = images.resolve(text).unwrap_err();
        assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::NotFound, message));
    }
    for (text, message) in [
        ("BAD", "invalid reference format: repository name (library/BAD) must be lowercase"),
        ("", "invalid reference format"),
        ("sha256:", "invalid reference format"),
    ] {
        let error = images.resolve(text).unwrap_err();
        assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::InvalidArgument, message));
    }
    // A name goes before the beginning of an id.
    let name = two.id.hex()[..6].to_owned();
    images.tag(&one.id, &reference(&name)).unwrap();
    assert_eq!(images.resolve(&name).unwrap().id, one.id);
    // A name moves.
    images.tag(&two.id, &reference("bb")).unwrap();
    assert_eq!(images.resolve("bb").unwrap().id, two.id);
    assert_eq!(images.list().len(), 2);
}

#[test]
fn ambiguous_beginnings_are_refused() {
    if !is_root("ambiguous_beginnings_are_refused") {
        return;
    }
    let store = TestStore::new();
    let base = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    // Seventeen images share some first digit.
    for n in 0..17 {
        step(&store, &base, &n.to_string(), None);
    }
    let ambiguous = "0123456789abcdef".chars().any(|digit| {
        matches!(store.images().resolve(&digit.to_string()), Err(ImageError::Ambiguous { count, .. }) if count > 1)
    });
    assert!(ambiguous);
    assert_eq!(store.images().children(&base.id).len(), 17);
}

#[test]
fn everything_survives_a_restart_byte_by_byte() {
    if !is_root("everything_survives_a_restart_byte_by_byte") {
        return;
    }
    let mut store = TestStore::new();
    let base = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    let built = step(&store, &base, "x", Some("y"));
    store.images().tag(&built.id, &reference("built:1")).unwrap();
    // A config with unknown fields and odd spacing keeps its bytes.
    let diff_ids = store.layers().diff_ids(base.chain.as_ref()).unwrap();
    let odd = format!(
        "{{ \"os\":\"linux\",\"x.unknown\" : [1, 2.50],\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{}\"]}}}}\n",
        diff_ids[0]
    );
    let new = NewImage { config: odd.clone().into_bytes(), chain: base.chain.clone(), parent: None };
    let odd_id = store.images().create(new).unwrap().id;
    assert_eq!(odd_id, digest(odd.as_bytes()));
    let before: Vec<_> = store.images().list().iter().map(|i| format!("{i:?}")).collect();
    store.open();
    let after: Vec<_> = store.images().list().iter().map(|i| format!("{i:?}")).collect();
    assert_eq!(before, after);
    assert_eq!(&*store.images().get(&odd_id).unwrap().raw, odd.as_bytes());
    assert_eq!(store.images().resolve("built:1").unwrap().parent, Some(base.id));
}

#[test]
fn history_names_what_is_here() {
    if !is_root("history_names_what_is_here") {
        return;
    }
    let store = TestStore::new();
    let base = image(&store, "bb", &Tar::new().file("a", "12345").bytes());
    let middle = step(&store, &base, "x", Some("1234567890"));
    let top = step(&store, &middle, "env", None);
    store.images().tag(&top.id, &reference("top")).unwrap();
    let rows = store.images().history(&top.id).unwrap();
    let row =
        |n: usize| (rows[n].id.clone(), rows[n].created_by.as_str(), rows[n].size, rows[n].tags.clone());
    assert_eq!(rows.len(), 2, "the base has no history of its own");
    assert_eq!(row(0), (top.id.to_string(), "RUN env", 0, Some(vec!["top:latest".to_owned()])));
    // The first step's layer is the base's: only as many as there are steps are told.
    assert_eq!((row(1).0, row(1).1, row(1).3), (middle.id.to_string(), "RUN x", None));
    assert_eq!(top.size, 15);
}

#[test]
fn removal_untags_deletes_and_prunes_as_dockerd_does() {
    if !is_root("removal_untags_deletes_and_prunes_as_dockerd_does") {
        return;
    }
    let store = TestStore::new();
    let images = store.images();
    let base = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    let middle = step(&store, &base, "x", Some("x"));
    let top = step(&store, &middle, "y", Some("y"));
    images.tag(&top.id, &reference("top")).unwrap();
    images.tag(&top.id, &reference("top:2")).unwrap();

    // By id that is a conflict; by name, it stays without one.
    let error = images.remove(base.id.short(), FORCE, &nobody).unwrap_err();
    let text = format!(
        "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
        base.id.short()
    );
    assert_eq!(error.to_string(), text);
    assert_eq!(images.resolve("bb").unwrap().id, base.id, "a refused removal changes nothing");
    assert_eq!(images.remove("bb", PLAIN, &nobody).unwrap(), [ImageDeleted::Untagged("bb:latest".into())]);
    images.tag(&base.id, &reference("bb")).unwrap();

    assert_eq!(images.remove("top:2", PLAIN, &nobody).unwrap(), [ImageDeleted::Untagged("top:2".into())]);
    images.tag(&top.id, &reference("other")).unwrap();
    let error = images.remove(top.id.short(), PLAIN, &nobody).unwrap_err();
    let text = format!(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
        top.id.short()
    );
    assert_eq!((error.class(), error.to_string()), (ErrorClass::Conflict, text));

    let answer = images.remove(top.id.short(), FORCE, &nobody).unwrap();
    let lines: Vec<String> = answer
        .iter()
        .map(|line| match line {
            ImageDeleted::Untagged(name) => format!("Untagged: {name}"),
            ImageDeleted::Deleted(id) => format!("Deleted: {id}"),
        })
        .collect();
    // The nameless parent went too, down to the base, which has a name.
    let expected = [
        "Untagged: other:latest".to_owned(),
        "Untagged: top:latest".to_owned(),
        format!("Deleted: {}", top.id),
        format!("Deleted: {}", middle.id),
        format!("Deleted: {}", top.chain.as_ref().unwrap()),
        format!("Deleted: {}", middle.chain.as_ref().unwrap()),
    ];
    assert_eq!(lines, expected);
    assert_eq!(store.names("layers"), [base.chain.as_ref().unwrap().hex()]);
    assert_eq!(images.remove("bb", PLAIN, &nobody).unwrap().len(), 3);
    assert!(store.names("layers").is_empty() && store.names("trash").is_empty());
    assert!(images.list().is_empty());
}

#[test]
fn containers_stand_against_removal() {
    if !is_root("containers_stand_against_removal") {
        return;
    }
    let store = TestStore::new();
    let images = store.images();
    let bb = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    let container = "0123456789abcdef".repeat(4);
    let user = |running| {
        let id = container.clone();
        move |_: &Digest| vec![ImageUser { id: id.clone(), running }]
    };
    let error = images.remove("bb", PLAIN, &user(false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to remove repository reference \"bb:latest\" (must force) - container \
             0123456789ab is using its referenced image {}",
            bb.id.short()
        )
    );
    let error = images.remove(bb.id.as_str(), PLAIN, &user(false)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("(must be forced) - image is being used by stopped container 0123456789ab")
    );
    for options in [PLAIN, FORCE] {
        let error = images.remove(bb.id.as_str(), options, &user(true)).unwrap_err();
        let end = "(cannot be forced) - image is being used by running container 0123456789ab";
        assert!(error.to_string().ends_with(end), "{error}");
    }
    // Another name may go, containers or not.
    images.tag(&bb.id, &reference("bb:2")).unwrap();
    assert_eq!(images.remove("bb:2", PLAIN, &user(true)).unwrap().len(), 1);
    let answer = images.remove("bb", FORCE, &user(true)).unwrap();
    assert_eq!(answer, [ImageDeleted::Untagged("bb:latest".into())], "the running container's image stays");
    images.tag(&bb.id, &reference("bb")).unwrap();
    // By force, a stopped container loses its image but keeps its files.
    let key = "seacow-user".parse().unwrap();
    store.snapshots().prepare(&key, bb.chain.as_ref(), &Default::default()).unwrap();
    let answer = images.remove("bb", FORCE, &user(false)).unwrap();
    assert_eq!(answer.len(), 2, "name and image, no layer: {answer:?}");
    assert!(store.snapshots().get(&key).is_ok());
    assert_eq!(store.names("layers").len(), 1);
    // With the container the last of it goes.
    store.snapshots().remove(&key).unwrap();
    assert!(store.names("layers").is_empty());
}

fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    store.images().save(names, &mut out).unwrap();
    out
}

#[test]
fn saved_and_loaded_is_the_same() {
    if !is_root("saved_and_loaded_is_the_same") {
        return;
    }
    let store = TestStore::new();
    let base = image(&store, "bb", &Tar::new().file("a", "1").symlink("l", "a").bytes());
    store.images().tag(&base.id, &reference("bb:v2")).unwrap();
    let built = step(&store, &base, "x", Some("x"));
    store.images().tag(&built.id, &reference("localhost:5000/x/built:1")).unwrap();
    let archive = save(&store, &["bb", "localhost:5000/x/built:1", built.id.short()]);

    let names: Vec<String> = tar::Archive::new(&archive[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[names.len() - 4..], ["index.json", "manifest.json", "oci-layout", "repositories"]);
    assert_eq!(
        names.len(),
        2 + 2 + 2 + 2 + 4,
        "configs, manifests, layers (one is shared), documents: {names:?}"
    );

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive).unwrap();
    for archive in [archive.clone(), gzip.finish().unwrap(), without(&archive, "manifest.json")] {
        let other = TestStore::new();
        let mut told = Vec::new();
        let loaded = other.images().load(&archive[..], |image| told.push(image.clone())).unwrap();
        assert_eq!(told, loaded);
        assert_eq!(loaded.iter().map(|image| &image.id).collect::<Vec<_>>(), [&base.id, &built.id]);
        let bb = other.images().resolve("bb:v2").unwrap();
        assert_eq!(
            (bb.id.clone(), bb.repo_tags()),
            (base.id.clone(), vec!["bb:latest".into(), "bb:v2".into()])
        );
        assert_eq!(other.images().resolve("localhost:5000/x/built:1").unwrap().chain, built.chain);
        // Twice is fine, and takes no more room.
        other.images().load(&archive[..], |_| {}).unwrap();
        assert_eq!(other.names("layers").len(), 2);
        assert!(other.names("drafts").is_empty());
        assert!(save(&other, &["bb"]) == save(&store, &["bb"]), "the archives differ");
    }
}

fn without(archive: &[u8], name: &str) -> Vec<u8> {
    rewrite(archive, |path, content| (path != name).then_some(content))
}

fn rewrite(archive: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Tar::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        if path.ends_with('/') {
            continue;
        }
        if let Some(content) = change(&path, content) {
            out = out.file(&path, content);
        }
    }
    out.bytes()
}

/// What `docker save` wrote before it was an OCI layout, with shared layers as links.
#[test]
fn old_docker_archives_are_loaded() {
    if !is_root("old_docker_archives_are_loaded") {
        return;
    }
    let layer = Tar::new().file("a", "1").bytes();
    let config = ImageConfig {
        os: "linux".into(),
        config: Some(ContainerConfig { cmd: Some(vec!["sh".into()]), ..ContainerConfig::default() }),
        rootfs: seacow_spec::oci::image::RootFs {
            kind: "layers".into(),
            diff_ids: vec![digest(&layer), digest(&layer)],
        },
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).unwrap();
    let id = digest(&config);
    let name = format!("{}.json", id.hex());
    let manifest = format!(
        "[{{\"Config\":\"{name}\",\"RepoTags\":[\"old:1\"],\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]}}]"
    );
    let archive = Tar::new()
        .dir("aa/", 0o755)
        .file("aa/VERSION", "1.0")
        .file("aa/layer.tar", &layer)
        .symlink("bb/layer.tar", "../aa/layer.tar")
        .file(&name, &config)
        .file("manifest.json", manifest)
        .bytes();
    let store = TestStore::new();
    let loaded = store.images().load(&archive[..], |_| {}).unwrap();
    assert_eq!((loaded.len(), &loaded[0].id), (1, &id));
    assert_eq!(store.images().resolve("old:1").unwrap().id, id);
    assert_eq!(store.layers().list().len(), 2);
}

#[test]
fn hostile_image_archives_leave_nothing() {
    if !is_root("hostile_image_archives_leave_nothing") {
        return;
    }
    let source = TestStore::new();
    let base = image(&source, "bb", &Tar::new().file("a", "1").bytes());
    let archive = save(&source, &["bb"]);
    let layer = source.layers().diff_ids(base.chain.as_ref()).unwrap()[0].clone();
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let (config, layer) = (blob(&base.id), blob(&layer));
    let replace = |name: String, with: &'static str| {
        move |path: &str, content: Vec<u8>| Some(if path == name { with.into() } else { content })
    };
    let other_layer: &'static str =
        Box::leak(String::from_utf8(Tar::new().file("a", "2").bytes()).unwrap().into_boxed_str());
    let manifest = |text: &str| Tar::new().file("manifest.json", text).bytes();
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (expected, archive) in [
        ("digest does not match", rewrite(&archive, replace(config, "{\"os\":\"linux\"}"))),
        ("digest does not match", rewrite(&archive, replace(layer.clone(), other_layer))),
        ("is not in it", without(&archive, &layer)),
        ("neither manifest.json nor index.json", Tar::new().file("x", "").bytes()),
        ("no image in it", manifest("[]")),
        ("manifest.json", manifest("{")),
        ("manifest.json", manifest(&nested)),
        ("is not in it", manifest(r#"[{"Config":"/etc/passwd","Layers":[]}]"#)),
        ("bad name", manifest(r#"[{"Config":"../x","Layers":[]}]"#)),
        (
            "is not in it",
            Tar::new()
                .symlink("c", "d")
                .symlink("d", "c")
                .file("manifest.json", r#"[{"Config":"c","Layers":[]}]"#)
                .bytes(),
        ),
        (
            "is not in it",
            Tar::new()
                .symlink("c", "/etc/passwd")
                .file("manifest.json", r#"[{"Config":"c","Layers":[]}]"#)
                .bytes(),
        ),
        (
            "length mismatch",
            Tar::new().file("c", "{}").file("manifest.json", r#"[{"Config":"c","Layers":["x"]}]"#).bytes(),
        ),
        (
            "cannot load windows image",
            Tar::new().file("c", r#"{"os":"windows"}"#).file("manifest.json", r#"[{"Config":"c"}]"#).bytes(),
        ),
        (
            "invalid reference format",
            Tar::new()
                .file("c", "{}")
                .file("manifest.json", r#"[{"Config":"c","RepoTags":["a b"]}]"#)
                .bytes(),
        ),
        (
            "reserved",
            Tar::new()
                .file("c", "{}")
                .file("manifest.json", r#"[{"Config":"c","RepoTags":["host:latest"]}]"#)
                .bytes(),
        ),
        (
            "invalid image config",
            Tar::new().file("c", "[]").file("manifest.json", r#"[{"Config":"c"}]"#).bytes(),
        ),
        ("larger than", Tar::new().file("manifest.json", vec![b' '; 5 << 20]).bytes()),
    ] {
        let store = TestStore::new();
        let error = store.images().load(&archive[..], |_| {}).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(matches!(error.class(), ErrorClass::InvalidArgument | ErrorClass::Forbidden), "{error}");
        assert!(store.images().list().is_empty());
        store.layers().remove_unused().unwrap();
        for dir in ["layers", "drafts", "trash"] {
            assert!(store.names(dir).is_empty(), "{expected}: {dir}");
        }
    }
}

#[test]
fn reserved_and_unknown_names() {
    if !is_root("reserved_and_unknown_names") {
        return;
    }
    let store = TestStore::new();
    let bb = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    let error = store.images().tag(&bb.id, &reference("host")).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Forbidden, "{error}");
    assert!(store.images().tag(&digest(b"x"), &reference("x")).is_err());
    assert!(store.images().untag(&reference("nosuch")).is_err());
    assert_eq!(store.images().untag(&reference("bb")).unwrap(), ImageDeleted::Untagged("bb:latest".into()));
    assert!(store.images().resolve(bb.id.short()).unwrap().names.is_empty());
    assert!(store.images().named(&reference("bb")).is_none());
    assert!(store.images().named(&reference("host")).is_none(), "looking does not make it");
}

#[test]
fn an_image_and_its_names_come_together() {
    if !is_root("an_image_and_its_names_come_together") {
        return;
    }
    let store = TestStore::new();
    let bb = image(&store, "bb", &Tar::new().file("a", "1").bytes());
    let config =
        ImageConfig { comment: "x".into(), rootfs: bb.config.rootfs.clone(), ..ImageConfig::default() };
    let new = || NewImage::from_config(&config, bb.chain.clone(), None);
    let create = |names: &[Reference]| store.images().create_named(new(), names, Durability::Durable);
    assert!(create(&[reference("x"), reference("host")]).is_err());
    assert_eq!(store.images().list().len(), 1, "a refused name leaves nothing");
    let made = create(&[reference("x"), reference("bb")]).unwrap();
    assert_eq!(made.repo_tags(), ["bb:latest", "x:latest"]);
    assert!(store.images().get(&bb.id).unwrap().names.is_empty(), "the name moved");
    // Again, with one more name.
    let again = create(&[reference("y:1")]).unwrap();
    assert_eq!((again.id, again.names.len()), (made.id, 3));
    // A config that lists other layers than it has is refused.
    let wrong = NewImage { chain: None, ..new() };
    assert_eq!(store.images().create(wrong).unwrap_err().class(), ErrorClass::InvalidArgument);
}
