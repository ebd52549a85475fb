//! Volume plug-ins by Docker's protocol: found, used, given back, and not trusted.

use seacow_tests::{Engine, VolumePlugin, eventually};

/// A plug-in in the engine's own directory, which no other test's engine sees.
fn with_plugin(engine: &Engine, name: &str) -> VolumePlugin {
    let socket = engine.exec_root().join("plugins").join(format!("{name}.sock"));
    VolumePlugin::start(&socket, &std::env::temp_dir().join(format!("{}-{name}", engine.name())))
}

#[test]
fn a_plug_in_keeps_volumes() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let plugin = with_plugin(&engine, "kept");
    let make = ["volume", "create", "-d", "kept", "-o", "size=1g", "-o", "a=b", "--label", "l=m", "vol"];
    assert_eq!(engine.docker(&make).ok(), "vol");
    let options = plugin.data("vol").parent().unwrap().parent().unwrap().join("vol.opts");
    assert_eq!(std::fs::read_to_string(options).unwrap(), r#"{"a":"b","size":"1g"}"#);
    let shown = "{{.Driver}} {{.Scope}} {{.Labels.l}} {{.Options.size}} {{.Status.kept}}";
    assert_eq!(engine.docker(&["volume", "inspect", "vol", "--format", shown]).ok(), "kept global m 1g well");
    let listed = ["volume", "ls", "--format", "{{.Driver}} {{.Name}} {{.Scope}}", "-f", "driver=kept"];
    assert_eq!(engine.docker(&listed).ok(), "kept vol global");
    assert!(engine.docker(&["info", "--format", "{{.Plugins.Volume}}"]).ok().contains("local kept"));
    // A name belongs to one driver.
    engine.docker(&["volume", "create", "-d", "local", "vol"]).fails(1, "volume name must be unique");
    engine.docker(&["volume", "create", "own"]).ok();
    engine.docker(&["volume", "create", "-d", "kept", "own"]).fails(1, "driver 'local' already has volume");

    let run =
        ["run", "-d", "--name", "one", "-v", "vol:/v", "-v", "vol:/w:ro", "bb", "tail", "-f", "/dev/null"];
    engine.docker(&run).ok();
    assert_eq!(plugin.users_of("vol"), 1);
    engine.docker(&["exec", "one", "sh", "-c", "echo written > /v/f; cat /w/f"]).ok();
    assert_eq!(std::fs::read_to_string(plugin.data("vol").join("f")).unwrap(), "written\n");
    let mount = "{{range .Mounts}}{{.Driver}} {{.Name}} {{.Source}} {{end}}";
    let mounted = engine.inspect("one", mount);
    let at = plugin.data("vol").parent().unwrap().with_file_name("mnt").join("vol");
    assert!(mounted.contains(&format!("kept vol {} ", at.display())), "{mounted}");
    engine.docker(&["volume", "rm", "vol"]).fails(1, "volume is in use");
    let both = engine.docker(&["run", "--rm", "--volumes-from", "one", "bb", "cat", "/w/f"]);
    assert_eq!(both.ok(), "written");
    eventually("the second user is gone", || plugin.users_of("vol") == 1);
    engine.docker(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(engine.docker(&["exec", "one", "cat", "/v/f"]).ok(), "written");
    engine.docker(&["stop", "-t", "0", "one"]).ok();
    eventually("it is given back", || plugin.users_of("vol") == 0);

    // A stopped container's volumes are mounted for who wants to see them.
    let copied = engine.exec_root().join("copied");
    engine.docker(&["cp", "one:/v/f", &copied.to_string_lossy()]).ok();
    assert_eq!(std::fs::read_to_string(&copied).unwrap(), "written\n");
    eventually("the copy has given it back", || plugin.users_of("vol") == 0);
    // At once after the container: it is not removed under its user.
    engine.docker(&["start", "one"]).ok();
    engine.docker(&["rm", "-f", "one"]).ok();
    engine.docker(&["volume", "rm", "vol"]).ok();
    assert!(!plugin.data("vol").exists() && plugin.users_of("vol") == 0);
    let (mounted, unmounted) = plugin.mounts_of("vol");
    assert_eq!(mounted, unmounted, "{:?}", plugin.calls());
    engine.seacow(&["volume", "snapshot", "vol"]).fails(1, "no such volume");
}

#[test]
fn volumes_are_filled_from_the_image_and_named_in_all_ways() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let plugin = with_plugin(&engine, "kept");
    let context = engine.exec_root().join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM bb\nRUN mkdir /data && echo image > /data/f\n").unwrap();
    engine.docker(&["build", "-t", "filled", &context.to_string_lossy()]).ok();
    let cat = |args: &[&str]| {
        let mut words = vec!["run", "--rm"];
        words.extend(args);
        words.extend(["filled", "cat", "/data/f"]);
        engine.docker(&words)
    };
    assert_eq!(cat(&["--volume-driver", "kept", "-v", "first:/data"]).ok(), "image");
    assert_eq!(
        cat(&["--mount", "type=volume,src=second,dst=/data,volume-driver=kept,volume-opt=x=y"]).ok(),
        "image"
    );
    assert!(plugin.data("first").join("f").exists() && plugin.data("second").join("f").exists());
    // One that the engine did not make is found by whoever has it.
    std::fs::create_dir(plugin.data("foreign")).unwrap();
    std::fs::write(plugin.data("foreign").join("f"), "foreign").unwrap();
    assert_eq!(engine.docker(&["volume", "inspect", "foreign", "--format", "{{.Driver}}"]).ok(), "kept");
    assert_eq!(cat(&["-v", "foreign:/data"]).ok(), "foreign");
    // Anonymous ones go with their container.
    assert_eq!(cat(&["--volume-driver", "kept", "-v", "/data"]).ok(), "image");
    eventually("no volume without a name is left", || {
        std::fs::read_dir(plugin.data("first").parent().unwrap()).unwrap().count() == 3
    });
    let kept = engine.docker(&["volume", "ls", "-q", "-f", "driver=kept"]).ok();
    assert_eq!(kept, "first\nforeign\nsecond");
    engine.docker(&["volume", "prune", "-af"]).ok();
    assert_eq!(engine.docker(&["volume", "ls", "-q", "-f", "driver=kept"]).ok(), kept);
    engine.docker(&["run", "--rm", "-v", "first:/s:O", "bb", "true"]).fails(125, "not implemented");
}

#[test]
fn a_killed_daemon_owes_the_plug_in_nothing() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let plugin = with_plugin(&engine, "kept");
    engine.docker(&["volume", "create", "-d", "kept", "vol"]).ok();
    for name in ["stays", "ends"] {
        engine.docker(&["run", "-d", "--name", name, "-v", "vol:/v", "bb", "tail", "-f", "/dev/null"]).ok();
    }
    assert_eq!(plugin.users_of("vol"), 2);
    let pid = engine.inspect("ends", "{{.State.Pid}}");
    engine.kill_daemon();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    engine.restart_daemon();
    eventually("who ended meanwhile has given it back", || plugin.users_of("vol") == 1);
    assert_eq!(engine.docker(&["exec", "stays", "sh", "-c", "echo still > /v/f; cat /v/f"]).ok(), "still");
    // A plug-in that is away at the end is told by the next engine.
    let before = plugin.mounts_of("vol").1;
    plugin.answer("VolumeDriver.Unmount", 500, "busy");
    engine.docker(&["rm", "-f", "stays", "ends"]).ok();
    eventually("the plug-in was told", || plugin.mounts_of("vol").1 > before);
    plugin.answer_truly("VolumeDriver.Unmount");
    engine.stop_daemon();
    assert_eq!(plugin.users_of("vol"), 1);
    engine.restart_daemon();
    eventually("the next engine tells it", || plugin.users_of("vol") == 0);
    eventually("nothing is owed", || {
        std::fs::read_dir(engine.exec_root().join("plugged")).unwrap().count() == 0
    });
    engine.docker(&["volume", "rm", "vol"]).ok();
}

#[test]
fn refusals_name_the_plug_in_and_leave_nothing() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let plugin = with_plugin(&engine, "kept");
    engine
        .docker(&["volume", "create", "-d", "nosuch", "vol"])
        .fails(1, "create vol: error looking up volume plugin nosuch: plugin \"nosuch\" not found");
    engine
        .docker(&["run", "--rm", "--volume-driver", "nosuch", "-v", "vol:/v", "bb", "true"])
        .fails(125, "plugin \"nosuch\" not found");
    plugin.answer("VolumeDriver.Create", 200, r#"{"Err":"the disk is gone"}"#);
    engine
        .docker(&["volume", "create", "-d", "kept", "vol"])
        .fails(1, "create vol: plugin \"kept\": VolumeDriver.Create: the disk is gone");
    assert_eq!(engine.docker(&["volume", "ls", "-q", "-f", "name=vol"]).ok(), "");
    plugin.answer_truly("VolumeDriver.Create");
    engine.docker(&["volume", "create", "-d", "kept", "vol"]).ok();
    let run = ["run", "--rm", "-v", "vol:/v:nocopy", "bb", "true"];
    for (answer, words) in [
        (
            r#"{"Err":"no path to the array"}"#,
            "error while mounting volume 'vol': plugin \"kept\": VolumeDriver.Mount: no path to the array",
        ),
        (r#"{"Mountpoint":"/no/such/directory"}"#, "does not exist"),
        (r#"{"Mountpoint":"/etc/passwd"}"#, "is not a directory"),
        (r#"{"Mountpoint":"/"}"#, "is the root of the host"),
        (r#"{"Mountpoint":"../../etc"}"#, "is not absolute"),
        (r#"{"Mountpoint":"/tmp/../etc"}"#, "leads upwards"),
        (r#"{"Mountpoint":7}"#, "makes no sense"),
        ("<html>", "makes no sense"),
    ] {
        plugin.answer("VolumeDriver.Mount", 200, answer);
        engine.docker(&run).fails(125, words);
    }
    plugin.answer("VolumeDriver.Mount", 200, &" ".repeat(9 << 20));
    engine.docker(&run).fails(125, "is larger than");
    plugin.answer_truly("VolumeDriver.Mount");
    // A plug-in that lies about its volumes hides nobody else's.
    engine.docker(&["volume", "create", "own"]).ok();
    plugin.answer(
        "VolumeDriver.List",
        200,
        r#"{"Volumes":[{"Name":"../../etc"},{"Name":"own"},{"Name":""}]}"#,
    );
    assert_eq!(engine.docker(&["volume", "ls", "-q", "-f", "driver=local"]).ok(), "own");
    plugin.answer("VolumeDriver.List", 500, "boom");
    assert!(engine.docker(&["volume", "ls", "-q"]).ok().contains("vol"));
    plugin.answer_truly("VolumeDriver.List");
    plugin.answer("VolumeDriver.Remove", 200, r#"{"Err":"still exported"}"#);
    engine
        .docker(&["volume", "rm", "vol"])
        .fails(1, "remove vol: plugin \"kept\": VolumeDriver.Remove: still exported");
    assert!(plugin.data("vol").exists());
    plugin.answer_truly("VolumeDriver.Remove");
    engine.docker(&["volume", "rm", "vol"]).ok();
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    engine.docker(&["plugin", "install", "--grant-all-permissions", "x/y"]).fails(1, "managed plug-ins");
    assert_eq!(engine.docker(&["plugin", "ls", "-q"]).ok(), "");
}

/// One that is restarted is waited for; meanwhile the engine serves others.
#[test]
fn a_plug_in_may_be_away_for_a_while() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let plugin = with_plugin(&engine, "kept");
    engine.docker(&["volume", "create", "-d", "kept", "vol"]).ok();
    plugin.stop();
    let waiting = engine.docker_running(&["run", "--rm", "-v", "vol:/v:nocopy", "bb", "echo", "came"]);
    eventually("it is called again", || engine.log().contains("again in"));
    assert_eq!(engine.docker(&["run", "--rm", "bb", "echo", "others"]).ok(), "others");
    plugin.listen();
    assert_eq!(waiting.finish().ok(), "came");
    eventually("it is given back", || plugin.users_of("vol") == 0);
}

/// Docker's directories, in a mount namespace where they are the test's own.
#[test]
fn plug_ins_are_found_where_docker_looks() {
    let place = std::env::temp_dir().join(format!("seacow-places-{}", std::process::id()));
    for dir in ["run/plugins", "etc/plugins", "usr/plugins/spec"] {
        std::fs::create_dir_all(place.join(dir)).unwrap();
    }
    let _kept = VolumePlugin::start(&place.join("run/plugins/kept.sock"), &place.join("kept"));
    let _spec = VolumePlugin::start(&place.join("elsewhere.sock"), &place.join("spec"));
    std::fs::write(
        place.join("etc/plugins/said.spec"),
        format!("unix://{}/elsewhere.sock\n", place.display()),
    )
    .unwrap();
    let document = format!("{{\"Name\":\"spec\",\"Addr\":\"unix://{}/elsewhere.sock\"}}", place.display());
    std::fs::write(place.join("usr/plugins/spec/spec.json"), document).unwrap();
    std::fs::write(place.join("etc/plugins/tls.json"), "{\"Addr\":\"https://h:1\",\"TLSConfig\":{}}")
        .unwrap();
    std::fs::write(place.join("etc/plugins/bad.spec"), "nonsense").unwrap();
    let _there = Directories::make(["/run/docker", "/etc/docker", "/usr/lib/docker"]);
    let script = format!(
        "mount --bind {0}/run /run/docker && mount --bind {0}/etc /etc/docker && \
         mount --bind {0}/usr /usr/lib/docker && exec \"$@\"",
        place.display()
    );
    {
        let engine = Engine::start_through(&["unshare", "--mount", "sh", "-c", &script, "sh"], &[]);
        if engine.skip_on_docker() {
            return;
        }
        for (driver, volume) in [("kept", "one"), ("said", "two"), ("spec", "three")] {
            engine.docker(&["volume", "create", "-d", driver, volume]).ok();
        }
        engine.docker(&["volume", "create", "-d", "tls", "vol"]).fails(1, "asks for TLS");
        engine.docker(&["volume", "create", "-d", "bad", "vol"]).fails(1, "is no address");
        let names = engine.docker(&["info", "--format", "{{.Plugins.Volume}}"]).ok();
        assert_eq!(names, "[local kept said spec]");
    }
    std::fs::remove_dir_all(&place).unwrap();
}

/// Directories to mount on. Those that were not there go again.
struct Directories(Vec<&'static str>);

impl Directories {
    fn make(wanted: [&'static str; 3]) -> Self {
        Self(wanted.into_iter().filter(|dir| std::fs::create_dir(dir).is_ok()).collect())
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        for dir in &self.0 {
            // Somebody else may have found a use for it meanwhile.
            drop(std::fs::remove_dir(dir));
        }
    }
}
