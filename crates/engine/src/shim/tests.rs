use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use seacow_spec::lifecycle::Exit;
use seacow_spec::shim::{Target, encode};

use super::*;

fn pair() -> (ShimClient, StdStream) {
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ShimClient::new(UnixStream::from_std(ours).unwrap(), None), theirs)
}

fn read_request(stream: &mut StdStream) -> ToShim {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn reply(stream: &mut StdStream, message: &FromShim) {
    stream.write_all(&encode(message).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_find_their_question_in_any_order() {
    let (client, mut shim) = pair();
    let first = client.send(Request::Start, None).unwrap();
    let second = client.send(Request::Pids, None).unwrap();
    let (a, b) = (read_request(&mut shim), read_request(&mut shim));
    assert_eq!((&a.request, &b.request), (&Request::Start, &Request::Pids));
    reply(&mut shim, &FromShim::Answer { seq: b.seq, answer: Answer::Pids(vec![4]) });
    let at = Timestamp::UNIX_EPOCH;
    reply(&mut shim, &FromShim::Answer { seq: a.seq, answer: Answer::Started { pid: 7, at } });
    assert_eq!(first.started().await.unwrap(), (7, at));
    assert_eq!(second.answer().await.unwrap(), Answer::Pids(vec![4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_the_sink_before_a_later_answer_its_asker() {
    let (client, mut shim) = pair();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    client.listen(Arc::new(move |signal| lock(&log).push(format!("{signal:?}"))));
    let asked = client.send(Request::Pause, None).unwrap();
    let request = read_request(&mut shim);
    let exit = Exit { code: 3, at: Timestamp::UNIX_EPOCH, oom_killed: false, reason: None };
    reply(&mut shim, &FromShim::Event(Event::Exited(exit)));
    reply(&mut shim, &FromShim::Answer { seq: request.seq, answer: Answer::Done });
    asked.done().await.unwrap();
    assert!(lock(&seen)[0].contains("Exited"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_shim_fails_all_waiting_and_later_requests() {
    let (client, shim) = pair();
    let (lost, heard) = std::sync::mpsc::channel();
    client.listen(Arc::new(move |signal| lost.send(matches!(signal, Signal::Lost)).unwrap()));
    let waiting = client.send(Request::Start, None).unwrap();
    drop(shim);
    assert!(matches!(waiting.started().await, Err(ShimError::Lost)));
    assert!(tokio::task::spawn_blocking(move || heard.recv().unwrap()).await.unwrap());
    assert!(matches!(client.send(Request::Start, None), Err(ShimError::Lost)));
    client.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_waits_for_room_and_arrives_whole() {
    let (client, mut shim) = pair();
    let resources = seacow_spec::oci::runtime::LinuxResources {
        unified: [("big".to_owned(), "x".repeat(4 << 20))].into(),
        ..Default::default()
    };
    let update = Request::Update { resources: Box::new(resources) };
    drop(client.send(update.clone(), None).unwrap());
    let resize = Request::Resize { target: Target::Init, rows: 1, cols: 2 };
    drop(client.send(resize.clone(), None).unwrap());
    let read = tokio::task::spawn_blocking(move || (read_request(&mut shim), read_request(&mut shim)));
    let (a, b) = read.await.unwrap();
    assert_eq!((a.request, b.request), (update, resize));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_comes_with_its_frame() {
    let (client, shim) = pair();
    let (theirs, mut mine) = StdStream::pair().unwrap();
    let attach = seacow_spec::shim::Attach {
        target: Target::Init,
        stdin: false,
        stdout: true,
        stderr: false,
        detach_keys: Vec::new(),
        initial_stdin: Vec::new(),
    };
    drop(client.send(Request::Attach(attach), Some(OwnedFd::from(theirs))).unwrap());
    let received = tokio::task::spawn_blocking(move || {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&shim, &mut parts, &mut ancillary, rustix::net::RecvFlags::CMSG_CLOEXEC)
            .unwrap();
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let rustix::net::RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        descriptors
    })
    .await
    .unwrap();
    assert_eq!(received.len(), 1);
    StdStream::from(received.into_iter().next().unwrap()).write_all(b"hi").unwrap();
    let mut text = [0; 2];
    mine.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hi");
}
