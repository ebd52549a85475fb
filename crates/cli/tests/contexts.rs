//! Contexts on disk: ours, and the one written for docker's client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::Command;

fn seacow(dir: &Path, args: &[&str]) -> (bool, String, String) {
    let output = Command::new(support::seacow())
        .args(args)
        .env("SEACOW_CONFIG", dir.join("seacow"))
        .env("DOCKER_CONFIG", dir.join("docker"))
        .env_remove("SEACOW_HOST")
        .env_remove("SEACOW_CONTEXT")
        .env_remove("DOCKER_HOST")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn made_chosen_shown_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| seacow(dir.path(), args);
    assert_eq!(run(&["context", "show"]).1, "default\n");
    let made = run(&[
        "context",
        "create",
        "lab",
        "--docker",
        "host=unix:///nonexistent/lab.sock",
        "--description",
        "d",
    ]);
    assert_eq!((made.0, made.1.as_str()), (true, "lab\n"));
    assert!(run(&["context", "create", "lab"]).2.contains("context \"lab\" already exists"));
    assert!(run(&["context", "create", "a/b"]).2.contains("is invalid, names are validated against regexp"));
    assert!(run(&["context", "use", "lab"]).0);
    assert_eq!(run(&["context", "show"]).1, "lab\n");
    assert!(
        run(&["ps"]).2.starts_with("Cannot connect to the seacow daemon at unix:///nonexistent/lab.sock.")
    );
    let listed =
        run(&["context", "ls", "--format", "{{.Name}}{{if .Current}}*{{end}} {{.DockerEndpoint}}"]).1;
    assert_eq!(listed, "default unix:///run/seacow/seacow.sock\nlab* unix:///nonexistent/lab.sock\n");
    assert_eq!(
        run(&["context", "inspect", "-f", "{{.Endpoints.docker.Host}}"]).1,
        "unix:///nonexistent/lab.sock\n"
    );
    assert!(run(&["context", "rm", "lab"]).2.contains("is in use"));
    assert!(run(&["context", "rm", "-f", "lab"]).0);
    assert_eq!(run(&["context", "show"]).1, "default\n");
    assert!(run(&["--context", "lab", "ps"]).2.contains("context \"lab\": context not found"));
}

/// docker's own client must take the context that is written for it.
#[test]
fn docker_reads_the_context_made_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (made, out, err) =
        seacow(dir.path(), &["-H", "unix:///nonexistent/s.sock", "context", "docker", "--use"]);
    assert!(made && out == "seacow\n", "{err}");
    if !support::docker_is_here("docker_reads_the_context_made_for_it") {
        return;
    }
    let output = Command::new("docker")
        .args(["context", "inspect", "-f", "{{.Name}} {{.Endpoints.docker.Host}}"])
        .env("DOCKER_CONFIG", dir.path().join("docker"))
        .env_remove("DOCKER_HOST")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "seacow unix:///nonexistent/s.sock\n");
}
