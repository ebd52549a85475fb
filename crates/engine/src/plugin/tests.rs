//! Against small servers that answer what the test wants.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;

/// Serves `answer(path)` on `<exec root>/plugins/<name>.sock`; bytes go out as they are.
fn serve(root: &Path, name: &str, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) {
    std::fs::create_dir_all(root.join("plugins")).unwrap();
    let listener = UnixListener::bind(root.join("plugins").join(format!("{name}.sock"))).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            assert!(text.contains("application/vnd.docker.plugins.v1"), "{text}");
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            // Whoever asked may be gone.
            drop(stream.write_all(&answer(&path)).await);
        }
    });
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn activated(path: &str) -> Option<Vec<u8>> {
    (path == "/Plugin.Activate").then(|| ok(r#"{"Implements":["VolumeDriver"]}"#))
}

fn text_of<T>(result: Result<T, PluginError>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn what_a_plug_in_says_is_checked() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().display().to_string();
    serve(root.path(), "mixed", move |path| {
        activated(path).unwrap_or_else(|| match path {
            "/VolumeDriver.Create" => ok(r#"{"Err":"disk is gone"}"#),
            "/VolumeDriver.Remove" => b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nboom".to_vec(),
            "/VolumeDriver.Get" => ok("{\"Volume\":"),
            "/VolumeDriver.List" => {
                ok(r#"{"Volumes":[{"Name":"../x"},{"Name":"good","Mountpoint":"up/../"}]}"#)
            }
            "/VolumeDriver.Capabilities" => ok(r#"{"Capabilities":{"Scope":"GLOBAL"}}"#),
            "/VolumeDriver.Mount" => ok(r#"{"Mountpoint":""}"#),
            "/VolumeDriver.Path" => ok(&format!(r#"{{"Mountpoint":"{place}"}}"#)),
            _ => ok("{}"),
        })
    });
    let plugins = Plugins::new(root.path());
    let driver = plugins.volume_driver("mixed").await.unwrap();
    let refused = text_of(driver.create("v", &BTreeMap::new()).await);
    assert_eq!(refused, "plugin \"mixed\": VolumeDriver.Create: disk is gone");
    assert!(text_of(driver.remove("v").await).ends_with("boom"));
    assert!(text_of(driver.get("v").await).contains("makes no sense"));
    let listed = driver.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].mountpoint.as_str()), ("good", ""));
    assert_eq!(plugins.scope(&driver).await, "global");
    assert_eq!(driver.mount("v", "id").await.unwrap(), root.path());
    assert!(driver.unmount("v", "id").await.is_ok() && !driver.has("v").await);
}

#[tokio::test]
async fn places_and_sizes_have_limits() {
    let root = tempfile::tempdir().unwrap();
    serve(root.path(), "bad", |path| {
        activated(path).unwrap_or_else(|| match path {
            "/VolumeDriver.Mount" => ok(r#"{"Mountpoint":"/no/such/place"}"#),
            "/VolumeDriver.List" => {
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20).into_bytes();
                answer.resize(64 << 20, b' ');
                answer
            }
            _ => b"this is no HTTP at all\r\n\r\n".to_vec(),
        })
    });
    let plugins = Plugins::new(root.path());
    let driver = plugins.volume_driver("bad").await.unwrap();
    assert!(text_of(driver.mount("v", "id").await).contains("\"/no/such/place\" does not exist"));
    assert!(text_of(driver.list().await).contains("larger than"));
    assert_eq!(plugins.scope(&driver).await, "local");
    serve(root.path(), "net", |_| ok(r#"{"Implements":["NetworkDriver"]}"#));
    let other = text_of(plugins.volume_driver("net").await);
    assert!(
        other.contains("does not implement the requested driver VolumeDriver, but NetworkDriver"),
        "{other}"
    );
    assert_eq!(text_of(plugins.volume_driver("none").await), "plugin \"none\" not found");
    let names: Vec<_> =
        plugins.volume_drivers().await.iter().map(|driver| driver.name().to_owned()).collect();
    assert_eq!(names, ["bad"]);
}

/// With the clock's hands turned by hand.
#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_given_up() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("plugins")).unwrap();
    let socket = root.path().join("plugins/dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let plugins = Plugins::new(root.path());
    let begun = tokio::time::Instant::now();
    let dead = text_of(plugins.volume_driver("dead").await);
    assert!(dead.starts_with("plugin \"dead\": Plugin.Activate: connect: "), "{dead}");
    assert_eq!(begun.elapsed().as_secs(), 1 + 2 + 4 + 8);
    std::fs::remove_file(&socket).unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (real, begun) = (Instant::now(), tokio::time::Instant::now());
    let silent = text_of(plugins.volume_driver("dead").await);
    assert_eq!(silent, "plugin \"dead\": Plugin.Activate: no answer within 60 seconds");
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert!(real.elapsed() < Duration::from_secs(30));
}
