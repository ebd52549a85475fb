//! Published ports: reached, told, kept from others, given back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use seacow_tests::{Done, Engine, eventually};

/// A page from `address`, or nothing where nobody answers.
fn page(address: Ipv4Addr, port: u16) -> Option<String> {
    let to = SocketAddr::from((address, port));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, page)| page.trim().to_owned())
}

/// A container that serves its name at port 80.
fn serve(engine: &Engine, name: &str, options: &[&str]) -> Done {
    let script = format!("mkdir -p /www && echo {name} > /www/page && exec httpd -f -p 80 -h /www");
    let args = [&["run", "-d", "--name", name], options, &["bb", "sh", "-c", &script]].concat();
    engine.docker(&args)
}

fn answers(engine: &Engine, port: u16, name: &str) {
    eventually("the published port answers", || page(Ipv4Addr::LOCALHOST, port).as_deref() == Some(name));
    let bridge: Ipv4Addr = engine.inspect(name, "{{.NetworkSettings.Gateway}}").parse().unwrap();
    assert_eq!(page(bridge, port).as_deref(), Some(name), "by an address of the host");
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_published_port_answers_until_its_container_ends() {
    let engine = Engine::start();
    let port = free_port();
    let publish = format!("{port}:80");
    serve(&engine, "web", &["-p", &publish]).ok();
    answers(&engine, port, "web");
    assert_eq!(engine.docker(&["port", "web", "80"]).ok().lines().next().unwrap(), format!("0.0.0.0:{port}"));
    let ports = engine.docker(&["ps", "--format", "{{.Ports}}"]).ok();
    assert!(ports.contains(&format!("0.0.0.0:{port}->80/tcp")), "{ports}");
    assert_eq!(
        engine.inspect("web", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}"),
        port.to_string()
    );
    let published = |filter: &str| engine.docker(&["ps", "-q", "--filter", filter]).ok().lines().count();
    assert_eq!(published(&format!("publish={port}")), 1);
    assert_eq!(published("publish=1"), 0);
    engine.docker(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(page(Ipv4Addr::LOCALHOST, port), None, "when stop has returned, nobody answers");
    assert_eq!(engine.docker(&["port", "web"]).ok(), "");
    engine.docker(&["start", "web"]).ok();
    answers(&engine, port, "web");
    engine.docker(&["restart", "-t", "0", "web"]).ok();
    answers(&engine, port, "web");
    engine.docker(&["rm", "-f", "web"]).ok();
    // The same again at once finds it free.
    for round in ["one", "two", "three"] {
        serve(&engine, round, &["-p", &publish]).ok();
        answers(&engine, port, round);
        engine.docker(&["rm", "-f", round]).ok();
    }
    assert_eq!(page(Ipv4Addr::LOCALHOST, port), None);
}

#[test]
fn any_port_a_range_and_all_that_is_exposed() {
    let engine = Engine::start();
    let port_of = |name: &str, inner: &str| -> u16 {
        let told = engine.docker(&["port", name, inner]).ok();
        told.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    };
    serve(&engine, "any", &["-p", "80"]).ok();
    answers(&engine, port_of("any", "80"), "any");
    serve(&engine, "all", &["-P", "--expose", "80", "--expose", "53/udp"]).ok();
    answers(&engine, port_of("all", "80"), "all");
    port_of("all", "53/udp");
    let first = free_port().min(65_000);
    let range = format!("{first}-{}:80", first + 20);
    serve(&engine, "one", &["-p", &range]).ok();
    serve(&engine, "two", &["-p", &range]).ok();
    let (one, two) = (port_of("one", "80"), port_of("two", "80"));
    assert!(one != two && [one, two].iter().all(|port| (first..=first + 20).contains(port)), "{one} {two}");
    answers(&engine, one, "one");
    answers(&engine, two, "two");
}

#[test]
fn one_address_of_the_host_only() {
    let engine = Engine::start_with(&["--ip=127.0.0.1"]);
    let (port, other) = (free_port(), free_port());
    serve(&engine, "local", &["-p", &format!("{port}:80"), "-p", &format!("0.0.0.0:{other}:80")]).ok();
    let bridge: Ipv4Addr = engine.inspect("local", "{{.NetworkSettings.Gateway}}").parse().unwrap();
    eventually("this host", || page(Ipv4Addr::LOCALHOST, port).as_deref() == Some("local"));
    assert_eq!(page(bridge, port), None, "no other address");
    assert_eq!(page(bridge, other).as_deref(), Some("local"), "what asks for all has all");
    let told = engine.docker(&["port", "local"]).ok();
    assert!(
        told.contains(&format!("127.0.0.1:{port}")) && told.contains(&format!("0.0.0.0:{other}")),
        "{told}"
    );
}

/// That they come and go is seen in the network crate's tests.
#[test]
fn a_port_of_datagrams_is_another_than_one_of_streams() {
    let engine = Engine::start();
    let port = free_port();
    let (streams, datagrams) = (format!("{port}:80"), format!("{port}:53/udp"));
    serve(&engine, "both", &["-p", &streams, "-p", &datagrams]).ok();
    answers(&engine, port, "both");
    let told = engine.docker(&["port", "both", "53/udp"]).ok();
    assert_eq!(told.lines().next().unwrap(), format!("0.0.0.0:{port}"));
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap_err();
    serve(&engine, "other", &["-p", &datagrams]).fails(125, "port is already allocated");
    engine.docker(&["rm", "-f", "both"]).ok();
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
}

#[test]
fn a_port_that_somebody_has_is_refused_by_name() {
    let engine = Engine::start();
    let port = free_port();
    let publish = format!("{port}:80");
    serve(&engine, "first", &["-p", &publish]).ok();
    let ours = serve(&engine, "second", &["-p", &publish]);
    ours.fails(125, &format!("Bind for 0.0.0.0:{port} failed: port is already allocated"));
    if engine.kind() == seacow_tests::Kind::Seacow {
        ours.fails(125, "by container first");
    }
    assert_eq!(engine.inspect("second", "{{.State.Status}}"), "created");
    engine.docker(&["start", "second"]).fails(1, "port is already allocated");
    // At another address it is another port; all addresses include that one.
    serve(&engine, "third", &["-p", &format!("127.0.0.1:{port}:80")]).fails(125, "already allocated");
    engine.docker(&["rm", "-f", "first"]).ok();
    engine.docker(&["start", "second"]).ok();
    answers(&engine, port, "second");
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = host.local_addr().unwrap().port();
    let refused = serve(&engine, "fourth", &["-p", &format!("{taken}:80")]);
    refused.fails(125, "address already in use");
    if engine.kind() == seacow_tests::Kind::Seacow {
        refused.fails(125, &format!("(process {})", std::process::id()));
    }
    drop(host);
    engine.docker(&["start", "fourth"]).ok();
    answers(&engine, taken, "fourth");
    // And the other way round: the host's programs do not get what a container has.
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, taken)).unwrap_err();
}

#[test]
fn what_cannot_be_published_is_refused() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let create = |network: &str, key: &str, ip: &str, port: &str| {
        let body = format!(
            r#"{{"Image":"bb","Cmd":["true"],"HostConfig":{{"NetworkMode":"{network}","PortBindings":{{"{key}":[{{"HostIp":"{ip}","HostPort":"{port}"}}]}}}}}}"#
        );
        let answer = engine.api("POST", "/containers/create", &body);
        (answer.status, answer.body)
    };
    for (key, ip, port, words) in [
        ("0/tcp", "", "80", "invalid port specification"),
        ("80/icmp", "", "80", "invalid port specification"),
        ("80/tcp", "", "70000", "70000"),
        ("80/tcp", "nowhere", "80", "invalid IP address"),
    ] {
        let (status, text) = create("bridge", key, ip, port);
        assert!(status == 400 && text.contains(words), "{status} {text}");
    }
    let (status, text) = create("bridge", "80/tcp", "::1", "80");
    assert!(status == 501 && text.contains("IPv6"), "{status} {text}");
    serve(&engine, "web", &[]).ok();
    let (status, text) = create("container:web", "80/tcp", "", "80");
    assert!(status == 400 && text.contains("container type network mode"), "{status} {text}");
    let here = serve(&engine, "away", &["-p", "203.0.113.7:8080:80"]);
    here.fails(125, "203.0.113.7:8080");
}

#[test]
fn ports_outlive_the_daemon_and_not_their_containers() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let (port, gone) = (free_port(), free_port());
    serve(&engine, "stays", &["-p", &format!("{port}:80")]).ok();
    serve(&engine, "ends", &["-p", &format!("{gone}:80")]).ok();
    answers(&engine, port, "stays");
    answers(&engine, gone, "ends");
    let pid = engine.inspect("ends", "{{.State.Pid}}");
    engine.kill_daemon();
    assert_eq!(page(Ipv4Addr::LOCALHOST, port).as_deref(), Some("stays"), "nobody needs the daemon");
    Done::run(std::process::Command::new("kill").args(["-9", &pid])).ok();
    engine.restart_daemon();
    assert_eq!(page(Ipv4Addr::LOCALHOST, port).as_deref(), Some("stays"), "while it looks around");
    let told = engine.docker(&["port", "stays"]).ok();
    assert!(told.contains(&port.to_string()), "it knows: {told}");
    assert_eq!(page(Ipv4Addr::LOCALHOST, port).as_deref(), Some("stays"));
    eventually("the other's port is given back", || page(Ipv4Addr::LOCALHOST, gone).is_none());
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap_err();
    serve(&engine, "third", &["-p", &format!("{port}:80")]).fails(125, "by container stays");
    serve(&engine, "fourth", &["-p", &format!("{gone}:80")]).ok();
    answers(&engine, gone, "fourth");
    engine.docker(&["rm", "-f", "stays"]).ok();
    assert_eq!(page(Ipv4Addr::LOCALHOST, port), None);
}

#[test]
fn eight_at_once_want_the_same() {
    let engine = Engine::start();
    let port = free_port();
    let publish = format!("{port}:80");
    let results: Vec<i32> = std::thread::scope(|scope| {
        let run = |number: usize| {
            let (engine, publish) = (&engine, &publish);
            scope.spawn(move || serve(engine, &format!("web{number}"), &["-p", publish]).code)
        };
        let all: Vec<_> = (0..8).map(run).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|code| **code == 0).count(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|code| **code == 125).count(), 7, "{results:?}");
}

#[test]
fn a_clone_has_ports_of_its_own() {
    let engine = Engine::forking();
    if engine.skip_on_docker() {
        return;
    }
    let port = free_port();
    serve(&engine, "web", &["-p", &format!("{port}:80")]).ok();
    answers(&engine, port, "web");
    let ours = |name: &str| -> u16 {
        let told = engine.docker(&["port", name, "80"]).ok();
        told.trim().rsplit(':').next().unwrap().parse().unwrap()
    };
    engine.seacow(&["fork", "--name", "forked", "web"]).ok();
    let forked = ours("forked");
    assert_ne!(forked, port);
    assert_eq!(page(Ipv4Addr::LOCALHOST, forked).as_deref(), Some("web"), "its server goes on");
    engine.seacow(&["clone", "--name", "cloned", "web"]).ok();
    engine.docker(&["start", "cloned"]).ok();
    let cloned = ours("cloned");
    eventually("the clone serves", || page(Ipv4Addr::LOCALHOST, cloned).as_deref() == Some("web"));
    answers(&engine, port, "web");
}
