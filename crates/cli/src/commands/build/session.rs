//! One build by our own engine: the list, what it lacks, and then its events.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seacow_spec::docker::build::{
    BUILD_EVENT, BUILD_SESSION, BuildEvent, BuildStart, JsonMessage, NO_SUCH_CONTEXT, NamedSource,
};

use super::display::Display;
use super::offers::{Offers, Source};
use super::upload::Files;
use super::{Dockerfile, auth, context_root, find_dockerfile, parameters, read_ignore};
use crate::archive::ignore::Ignore;
use crate::client::{Client, ClientError};
use crate::command::Invocation;
use crate::failure::{Failure, go_io_text};
use crate::flags::Matches;
use crate::http::{Body, HttpError};
use crate::stream::{MAX_MESSAGE, complete_messages, stream_error};

/// How often a context is sent again that was changed or thrown away meanwhile.
const TRIES: usize = 3;
const PIECE: usize = 16 << 10;

/// Builds from a directory; the image's id. `None` when this is not such a build, or the engine is not
/// ours.
pub(super) fn build(invocation: &Invocation<'_>, quiet: bool) -> Result<Option<String>, Failure> {
    let argument = invocation.arg(0);
    let remote = ["git://", "github.com/", "git@", "http://", "https://"];
    if argument == "-" || remote.iter().any(|prefix| argument.starts_with(prefix)) {
        return Ok(None);
    }
    let matches = invocation.matches;
    context_root(argument)?;
    let client = invocation.client()?;
    // Asked before the Dockerfile is read, which may come from standard input.
    if !is_ours(client)? {
        return Ok(None);
    }
    let Some(request) = Request::read(argument, matches)? else { return Ok(None) };
    for _ in 0..TRIES {
        match request.start(client, invocation, quiet) {
            Err(Failure::Client(error)) if is_gone(&error) => {
                request.send(client)?;
            }
            started => return started.map(Some),
        }
    }
    Err(Failure::refused("the build context changes faster than it can be sent"))
}

/// The context is not kept, or not any more.
fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Daemon { status: 404, message } if message.starts_with(NO_SUCH_CONTEXT))
}

/// Whether the engine is seacow, which it says in every answer.
fn is_ours(client: &Client) -> Result<bool, Failure> {
    let response = client.get("/_ping").unversioned().send()?;
    let ours = response.head.field("Server").is_some_and(|server| server.starts_with("Seacow"));
    client.discard(response);
    Ok(ours)
}

/// Everything that is asked for.
struct Request {
    files: Files,
    others: BTreeMap<String, Files>,
    images: BTreeMap<String, String>,
    offers: Offers,
    dockerfile: String,
    /// Where the Dockerfile is not among the files.
    text: Option<String>,
}

impl Request {
    fn read(directory: &str, matches: &Matches) -> Result<Option<Self>, Failure> {
        let root = context_root(directory)?;
        let file = matches.str("file");
        let mut ignore = read_ignore(&root, file)?;
        let (dockerfile, text) = match find_dockerfile(&root, file)? {
            Dockerfile::Inside(name) => {
                // The engine needs it, whatever the user's patterns say.
                if !ignore.is_empty() && ignore.leaves_out(&name) {
                    ignore.add(&format!("!{name}"));
                }
                (name, None)
            }
            Dockerfile::Outside(text) => {
                let name = if file == "-" { "Dockerfile" } else { file };
                let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
                (name, Some(String::from_utf8_lossy(&text).into_owned()))
            }
        };
        let Some(files) = Files::list(&root, ignore)? else { return Ok(None) };
        let offers = Offers::parse(matches)?;
        let (mut others, mut images) = (BTreeMap::new(), BTreeMap::new());
        for (name, source) in &offers.contexts {
            match source {
                Source::Image(image) => _ = images.insert(name.clone(), image.clone()),
                Source::Directory(directory) => {
                    let root = context_root(directory)?;
                    let ignore = std::fs::read_to_string(root.join(".dockerignore")).unwrap_or_default();
                    let Some(files) = Files::list(&root, Ignore::parse(&ignore))? else {
                        let text = format!("NotImplemented: --build-context {name}: devices or pipes in it");
                        return Err(Failure::Refused(text));
                    };
                    others.insert(name.clone(), files);
                }
            }
        }
        Ok(Some(Self { files, others, images, offers, dockerfile, text }))
    }

    /// Sends what the engine lacks.
    fn send(&self, client: &Client) -> Result<(), Failure> {
        self.files.send(client)?;
        self.others.values().try_for_each(|files| files.send(client))
    }

    fn start(
        &self,
        client: &Arc<Client>,
        invocation: &Invocation<'_>,
        quiet: bool,
    ) -> Result<String, Failure> {
        let matches = invocation.matches;
        let session = seacow_spec::id::random_hex()?;
        let mut contexts: BTreeMap<String, NamedSource> = self
            .images
            .iter()
            .map(|(name, image)| (name.clone(), NamedSource::Image(image.clone())))
            .collect();
        contexts.extend(
            self.others.iter().map(|(name, files)| (name.clone(), NamedSource::Context(files.id.clone()))),
        );
        let secrets = self.offers.secrets.iter();
        let start = BuildStart {
            context: self.files.id.clone(),
            dockerfile: self.text.clone(),
            contexts,
            secrets: secrets.map(|(id, data)| (id.clone(), auth::base64(data, false))).collect(),
            agents: self.offers.agents.keys().cloned().collect(),
        };
        let call = client.post("/build").query("dockerfile", &self.dockerfile);
        let call = parameters(call, matches)?
            .query("version", "1")
            .query("progress", "events")
            .query(BUILD_SESSION, &session)
            .field("X-Registry-Config", auth::all(invocation.globals));
        let mut response = call.send_json(&start)?;
        let mut display = Display::new(matches.str("progress"), quiet);
        let agents = Agents { client, session: &session, sockets: &self.offers.agents };
        let image = follow(&mut response.body, &mut display, &agents);
        display.finish();
        let (image, names) = image?;
        if quiet {
            crate::outln(&image)?;
            return Ok(image);
        }
        // Scripts look for these lines, wherever else the progress goes.
        let short = image.strip_prefix("sha256:").unwrap_or(&image);
        crate::outln(&format!("Successfully built {}", short.get(..12).unwrap_or(short)))?;
        for name in names {
            crate::outln(&format!("Successfully tagged {name}"))?;
        }
        Ok(image)
    }
}

/// The agents that the engine may ask for.
struct Agents<'a> {
    client: &'a Arc<Client>,
    session: &'a str,
    sockets: &'a BTreeMap<String, PathBuf>,
}

impl Agents<'_> {
    /// Connects an agent to a step; in the background, for as long as both like.
    fn connect(&self, connection: u64, id: &str) -> io::Result<()> {
        let Some(path) = self.sockets.get(id).cloned() else { return Ok(()) };
        let (client, session) = (Arc::clone(self.client), self.session.to_owned());
        std::thread::Builder::new().name("ssh-agent".into()).spawn(move || {
            // What goes wrong shows in the step, whose connection ends.
            let _ = pass(&client, &session, connection, &path);
        })?;
        Ok(())
    }
}

fn pass(client: &Client, session: &str, connection: u64, path: &Path) -> Result<(), Failure> {
    let agent = UnixStream::connect(path)?;
    let call = client.post("/build/agent").query("session", session);
    let response = call.query("connection", connection.to_string()).hijack().send()?;
    let mut conn = response.body.into_conn();
    let (mut to_engine, mut from_agent, mut to_agent) = (conn.socket.clone(), agent.try_clone()?, agent);
    let answers = std::thread::Builder::new().name("ssh-agent-answers".into()).spawn(move || {
        let _ = io::copy(&mut from_agent, &mut to_engine);
        to_engine.shut_write()
    })?;
    let mut buffer = vec![0; PIECE];
    loop {
        match conn.read(&mut buffer)? {
            0 => break,
            len => to_agent.write_all(&buffer[..len])?,
        }
    }
    to_agent.shutdown(std::net::Shutdown::Write)?;
    let _ = answers.join();
    Ok(())
}

/// Shows the events until the end; the image's id and its names.
fn follow(
    body: &mut Body,
    display: &mut Display,
    agents: &Agents<'_>,
) -> Result<(String, Vec<String>), Failure> {
    let mut image = (String::new(), Vec::new());
    let mut buffer = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let len = body.read(&mut piece).map_err(HttpError::Receive)?;
        buffer.extend_from_slice(&piece[..len]);
        let used = complete_messages(&buffer, &mut |message: JsonMessage| {
            if let Some(error) = &message.error_detail {
                display.failed()?;
                return Err(stream_error(error.code, &error.message));
            }
            let event = message.aux.as_ref().and_then(|aux| aux.get(BUILD_EVENT));
            let Some(event) = event else { return display.message(&message) };
            // An engine that is newer than we are may tell more.
            let Ok(event) = serde_json::from_value::<BuildEvent>(event.clone()) else { return Ok(()) };
            match &event {
                BuildEvent::Agent { connection, id } => agents.connect(*connection, id)?,
                BuildEvent::Built { id, names } => image = (id.clone(), names.clone()),
                _ => {}
            }
            display.event(event)
        })?;
        buffer.drain(..used);
        if len == 0 {
            break;
        }
        if buffer.len() > MAX_MESSAGE {
            return Err(Failure::refused("the engine's progress stream has an endless message"));
        }
    }
    if image.0.is_empty() {
        return Err(Failure::Refused(format!(
            "the engine ended the build: {}",
            go_io_text(&io::ErrorKind::UnexpectedEof.into())
        )));
    }
    Ok(image)
}
