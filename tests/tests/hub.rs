//! Docker Hub's ways, with a stand-in for it: tokens, blobs at another host, limits, indexes, names.

use seacow_tests::{Hub, HubAsked};

fn scopes(asked: &[HubAsked]) -> Vec<String> {
    let tokens = asked.iter().filter(|asked| asked.host == "auth.docker.io");
    tokens.map(|asked| asked.path.clone()).collect()
}

#[test]
fn official_images_come_by_index_token_and_redirect() {
    let hub = Hub::start();
    let (index, _) = hub.publish("library/box", "latest");
    let engine = hub.engine();
    if engine.skip_on_docker() {
        return;
    }
    let said = engine.docker(&["pull", "box"]).ok();
    assert!(said.contains("latest: Pulling from library/box"), "{said}");
    assert!(
        said.contains(&format!("Digest: {index}\nStatus: Downloaded newer image for box:latest")),
        "{said}"
    );
    assert_eq!(engine.docker(&["run", "--rm", "box", "echo", "ran"]).ok(), "ran");
    assert_eq!(engine.inspect("box", "{{index .RepoDigests 0}}"), format!("box@{index}"));
    // Anonymous, for this repository, to pull; where blobs are, nothing is shown.
    let asked = hub.asked();
    let tokens = scopes(&asked);
    assert!(tokens.iter().all(|path| path.contains("scope=repository%3Alibrary%2Fbox%3Apull")), "{tokens:?}");
    assert!(tokens.iter().all(|path| path.contains("service=registry.docker.io")), "{tokens:?}");
    let content: Vec<_> = asked.iter().filter(|asked| asked.host.starts_with("production")).collect();
    assert!(!content.is_empty() && content.iter().all(|asked| asked.authorization.is_empty()), "{content:?}");
    // By another of its names it is here.
    let again = engine.docker(&["pull", "docker.io/library/box:latest"]).ok();
    assert!(again.contains("Image is up to date for box:latest"), "{again}");
    engine.docker(&["pull", "nobody"]).fails(1, "manifest for nobody:latest not found: manifest unknown");
}

#[test]
fn whoever_is_turned_away_comes_again() {
    let hub = Hub::start();
    hub.publish("library/box", "latest");
    let engine = hub.engine();
    if engine.skip_on_docker() {
        return;
    }
    hub.be_busy(2);
    engine.docker(&["pull", "-q", "box"]).ok();
    engine.docker(&["rmi", "-f", "box"]).ok();
    // Not for ever.
    hub.be_busy(1000);
    engine
        .docker(&["pull", "box"])
        .fails(1, "toomanyrequests: You have reached your unauthenticated pull rate limit.");
    hub.be_busy(0);
    engine.docker(&["pull", "-q", "box"]).ok();
}

#[test]
fn who_logs_in_may_more() {
    let hub = Hub::start();
    let (_, manifest) = hub.publish("ann/private", "1");
    let engine = hub.engine();
    if engine.skip_on_docker() {
        return;
    }
    engine.docker(&["pull", "ann/private:1"]).fails(
        1,
        "pull access denied for ann/private, repository does not exist or may require 'docker login': denied: \
         requested access to the resource is denied",
    );
    engine.docker(&["tag", "bb", "ann/made:1"]).ok();
    engine.docker(&["push", "ann/made:1"]).fails(1, "denied: requested access to the resource is denied");
    engine
        .docker_with_input(&["login", "-u", "ann", "--password-stdin"], b"wrong")
        .fails(1, "incorrect username or password");
    let login = engine.docker_with_input(&["login", "-u", "ann", "--password-stdin"], b"secret");
    assert!(login.ok().contains("Login Succeeded"));
    engine.docker(&["pull", "-q", "ann/private:1"]).ok();
    engine.docker(&["push", "-q", "ann/made:1"]).ok();
    let scopes = scopes(&hub.asked());
    assert!(scopes.iter().any(|path| path.contains("ann%2Fmade%3Apull%2Cpush")), "{scopes:?}");
    assert!(hub.manifest("ann/made", "1").is_some());
    // What came from an index goes on as the image that it was.
    engine.docker(&["tag", "ann/private:1", "ann/copy:1"]).ok();
    let said = engine.docker(&["push", "ann/copy:1"]).ok();
    assert!(said.contains(&format!("digest: {manifest}")), "{said}");
    assert_eq!(hub.manifest("ann/copy", "1"), hub.manifest("ann/private", &manifest));
}

#[test]
fn searching() {
    let hub = Hub::start();
    let engine = hub.engine();
    if engine.skip_on_docker() {
        return;
    }
    let found = engine.docker(&["search", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}", "bb"]).ok();
    assert_eq!(found, "bb 7 [OK]\nann/bb 1 ");
    let official =
        engine.docker(&["search", "--format", "{{.Name}}", "--filter", "is-official=true", "bb"]).ok();
    assert_eq!(official, "bb");
    let liked = engine.seacow(&["search", "--format", "{{.Name}}", "--filter", "stars=2", "bb"]).ok();
    assert_eq!(liked, "bb");
    engine.docker(&["search", "--filter", "nope=1", "bb"]).fails(1, "invalid filter 'nope'");
    engine.docker(&["search", "--limit", "101", "bb"]).fails(1, "outside the range of [1, 100]");
    assert_eq!(engine.docker(&["search", "--format", "{{.Name}}", "zz"]).ok(), "");
}
