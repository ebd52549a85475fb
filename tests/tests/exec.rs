//! `docker exec`.

use seacow_tests::{Engine, eventually};

fn with_container() -> Engine {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "-e", "FROM_RUN=1", "bb", "sleep", "1000"]).ok();
    engine
}

#[test]
fn output_status_and_input() {
    let engine = with_container();
    let done = engine.docker(&["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 5"]);
    done.code(5);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    assert_eq!(engine.docker_with_input(&["exec", "-i", "box", "cat"], b"zz\n").ok(), "zz");
    assert_eq!(engine.docker(&["exec", "box", "cat"]).ok(), "");
    let data = vec![b'x'; 1 << 20];
    assert_eq!(engine.docker_with_input(&["exec", "-i", "box", "wc", "-c"], &data).ok(), "1048576");
}

#[test]
fn in_the_container_and_not_beside_it() {
    let engine = with_container();
    let kinds = "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    let of_init = "for n in pid mnt uts ipc net cgroup; do readlink /proc/1/ns/$n; done";
    assert_eq!(
        engine.docker(&["exec", "box", "sh", "-c", kinds]).ok(),
        engine.docker(&["exec", "box", "sh", "-c", of_init]).ok()
    );
    assert_eq!(
        engine.docker(&["exec", "box", "cat", "/proc/self/cgroup"]).ok(),
        engine.docker(&["exec", "box", "cat", "/proc/1/cgroup"]).ok()
    );
    assert_eq!(engine.docker(&["exec", "box", "sh", "-c", "echo $FROM_RUN"]).ok(), "1");
    let same =
        engine.docker(&["exec", "box", "grep", "-E", "^(Cap|Seccomp|NoNewPrivs)", "/proc/self/status"]).ok();
    assert_eq!(
        same,
        engine.docker(&["exec", "box", "grep", "-E", "^(Cap|Seccomp|NoNewPrivs)", "/proc/1/status"]).ok()
    );
}

#[test]
fn user_environment_and_directory() {
    let engine = with_container();
    let sh = |args: &[&str], script: &str| {
        let mut all = vec!["exec"];
        all.extend(args);
        all.extend(["box", "sh", "-c", script]);
        engine.docker(&all).ok()
    };
    assert_eq!(sh(&["-u", "user"], "id -u; id -G; echo $HOME"), "1000\n1000 2000\n/home/user");
    assert_eq!(sh(&["-e", "A=b"], "echo $A"), "b");
    assert_eq!(sh(&["-w", "/tmp"], "pwd"), "/tmp");
    if engine.kind() == seacow_tests::Kind::Seacow {
        // dockerd fails here where the machine itself lacks a capability.
        let capabilities = |args: &[&str]| sh(args, "grep CapEff /proc/self/status | cut -f2");
        assert!(capabilities(&["--privileged"]) > capabilities(&[]));
    }
    let done = engine.docker(&["exec", "-u", "ghost", "box", "true"]);
    done.code(126);
    assert!((done.out.clone() + &done.err).contains("unable to find user ghost"), "{done:?}");
}

#[test]
fn a_program_that_cannot_be_run() {
    let engine = with_container();
    let done = engine.docker(&["exec", "box", "nosuchcmd"]);
    assert!(matches!(done.code, 126 | 127), "{done:?}");
    assert!((done.out.clone() + &done.err).contains("executable file not found in $PATH"), "{done:?}");
    let done = engine.docker(&["exec", "box", "/etc/passwd"]);
    done.code(126);
    assert!((done.out.clone() + &done.err).contains("permission denied"), "{done:?}");
    engine.docker(&["exec", "nosuch", "true"]).fails(1, "No such container: nosuch");
    engine.docker(&["kill", "box"]).ok();
    engine.docker(&["exec", "box", "true"]).fails(1, "is not running");
}

#[test]
fn detached_it_goes_on_alone() {
    let engine = with_container();
    engine.docker(&["exec", "-d", "box", "sh", "-c", "sleep 0.2; touch /done"]).ok();
    eventually("detached exec", || engine.docker(&["exec", "box", "ls", "/done"]).code == 0);
}

#[test]
fn many_at_once() {
    let engine = with_container();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..5 {
                    let code = (n * 5 + round) % 100 + 1;
                    let script = format!("echo {code}; exit {code}");
                    let done = engine.docker(&["exec", "box", "sh", "-c", &script]);
                    done.code(code);
                    assert_eq!(done.out, format!("{code}\n"));
                }
            });
        }
    });
}

/// What seacow has beyond Docker's API, and its own client with it.
#[test]
fn in_one_round_trip() {
    let engine = with_container();
    if engine.skip_on_docker() {
        return;
    }
    let done = engine.seacow(&["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 5"]);
    done.code(5);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    assert_eq!(engine.seacow_with_input(&["exec", "-i", "box", "cat"], b"zz\n").ok(), "zz");
    engine.seacow(&["exec", "-d", "box", "touch", "/detached"]).ok();
    eventually("detached exec", || engine.seacow(&["exec", "box", "ls", "/detached"]).code == 0);
    let done = engine.seacow(&["exec", "box", "/etc/passwd"]);
    done.code(126);
    assert!((done.out.clone() + &done.err).contains("permission denied"), "{done:?}");
    engine.seacow(&["exec", "nosuch", "true"]).fails(1, "No such container: nosuch");
    // Who does not ask for the upgrade gets what Docker answers, and starts it himself.
    let created = engine.api("POST", "/containers/box/exec?start=1", r#"{"Cmd":["true"]}"#);
    assert_eq!(created.status, 201);
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(engine.api("GET", &format!("/exec/{id}/json"), "").json()["Running"], false);
}

#[test]
fn waiting_for_the_end() {
    let engine = with_container();
    if engine.skip_on_docker() {
        return;
    }
    let create = |script: &str| {
        let body = format!(r#"{{"Cmd":["sh","-c","{script}"]}}"#);
        engine.api("POST", "/containers/box/exec", &body).json()["Id"].as_str().unwrap().to_owned()
    };
    let start = |id: &str| engine.api("POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#).status;
    let wait = |id: &str| engine.api("POST", &format!("/exec/{id}/wait"), "");
    engine.api("POST", "/exec/nosuch/wait", "").refuses(404, "No such exec instance: nosuch");
    // Before it is started, while it runs, and after its end.
    let id = create("while ! test -e /go; do sleep 0.01; done; exit 7");
    let begin = |id: &str| engine.api_begin("POST", &format!("/exec/{id}/wait"));
    let before = begin(&id);
    assert_eq!(start(&id), 200);
    let meanwhile = begin(&id);
    engine.docker(&["exec", "box", "touch", "/go"]).ok();
    for waited in [before.answer(), meanwhile.answer(), wait(&id)] {
        assert_eq!(waited.json()["StatusCode"], 7);
    }
    // One that is never started ends with its container, one that runs is killed with it.
    let (never, running) = (create("true"), create("sleep 1000"));
    assert_eq!(start(&running), 200);
    let waits = [begin(&never), begin(&running)];
    // Requests are taken in the order in which they come.
    assert_eq!(engine.api("GET", "/_ping", "").status, 200);
    engine.docker(&["rm", "-f", "box"]).ok();
    let codes = waits.map(|waited| waited.answer().json()["StatusCode"].as_i64().unwrap());
    assert_eq!(codes, [126, 137]);
}
