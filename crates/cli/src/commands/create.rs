//! `create`, and the creating half of `run`.

use seacow_spec::docker::container::{CreateRequest, CreateResponse};
use seacow_spec::reference::{InvalidReference, Reference};

use super::pull::{self, Shown};
use crate::client::{Client, ClientError};
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome, USAGE, go_io_text};
use crate::opts::container::create_request;
use crate::opts::container_flags::CONTAINER;
use crate::term;

/// `create`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    aliases: &["container create", "create"],
    flags: &[CONTAINER],
    args: Args::AtLeast(1),
    interspersed: false,
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let request = create_request(invocation.matches).map_err(|f| own_words(f, invocation.path))?;
    let created = create(invocation, &request)?;
    crate::outln(&created.id)
}

/// Failures of `run` and `create` begin with the program's name, end with a pointer to the help,
/// and have an exit status that no container's command has.
pub(crate) fn own_words(failure: Failure, path: &str) -> Failure {
    match failure {
        Failure::Exit(_) | Failure::Status { .. } => failure,
        other if other.is_broken_pipe() => other,
        other => Failure::Status {
            text: format!("seacow: {other}\n\nRun 'seacow {path} --help' for more information"),
            code: USAGE,
        },
    }
}

/// Creates the container; pulls the image first if it has to.
pub(crate) fn create(
    invocation: &Invocation<'_>,
    request: &CreateRequest,
) -> Result<CreateResponse, Failure> {
    let matches = invocation.matches;
    let policy = matches.str("pull");
    if !matches!(policy, "always" | "missing" | "never") {
        return Err(Failure::Refused(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let image = &request.config.image;
    check_image(image)?;
    let cid_file = CidFile::create(matches.str("cidfile"))?;
    let client = invocation.client()?;
    if policy == "always" {
        pull_image(invocation, client, image)?;
    }
    let created = match post(invocation, client, request) {
        Err(error) if policy == "missing" && is_missing_image(&error) => {
            if !matches.bool("quiet") {
                eprintln!("Unable to find image '{}' locally", familiar(image));
            }
            pull_image(invocation, client, image)?;
            post(invocation, client, request)?
        }
        other => other?,
    };
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    cid_file.write(&created.id)?;
    Ok(created)
}

fn post(
    invocation: &Invocation<'_>,
    client: &Client,
    request: &CreateRequest,
) -> Result<CreateResponse, ClientError> {
    let mut call = client.post("/containers/create").query_some("name", invocation.matches.str("name"));
    if let Some(platform) = platform(invocation) {
        call = call.query("platform", platform);
    }
    call.exchange_json(request)
}

/// `--platform`, or docker's variable for it.
pub(crate) fn platform(invocation: &Invocation<'_>) -> Option<String> {
    let given = invocation.matches.given("platform").map(str::to_owned);
    given.or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok()).filter(|p| !p.is_empty())
}

fn is_missing_image(error: &ClientError) -> bool {
    error.is_not_found() && error.to_string().contains("No such image")
}

/// What can be neither a name nor an id is refused before anything is sent.
fn check_image(image: &str) -> Result<(), Failure> {
    match image.parse::<Reference>() {
        Ok(_) | Err(InvalidReference::LooksLikeId(_)) => Ok(()),
        Err(error) => Err(Failure::Refused(error.to_string())),
    }
}

/// The image's name as messages show it, with its tag.
fn familiar(image: &str) -> String {
    image.parse::<Reference>().map_or_else(|_| image.to_owned(), |r| r.or_latest().familiar())
}

fn pull_image(invocation: &Invocation<'_>, client: &Client, image: &str) -> Result<(), Failure> {
    let mut stderr = std::io::stderr();
    let out = Shown { terminal: term::is_terminal(rustix::stdio::stderr()), out: &mut stderr };
    let out = (!invocation.matches.bool("quiet")).then_some(out);
    pull::pull(invocation, client, image, platform(invocation).as_deref(), out)
}

/// `--cidfile`: made before the container, so that an existing one stops the command in time;
/// removed again if there is no container to name in it.
struct CidFile<'a> {
    path: &'a str,
    written: bool,
}

impl<'a> CidFile<'a> {
    fn create(path: &'a str) -> Result<Self, Failure> {
        if !path.is_empty() {
            if std::fs::metadata(path).is_ok() {
                return Err(Failure::Refused(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )));
            }
            std::fs::File::create(path).map_err(|e| {
                Failure::Refused(format!(
                    "failed to create the container ID file: open {path}: {}",
                    go_io_text(&e)
                ))
            })?;
        }
        Ok(Self { path, written: path.is_empty() })
    }

    fn write(mut self, id: &str) -> Result<(), Failure> {
        if !self.path.is_empty() {
            std::fs::write(self.path, id).map_err(|e| {
                Failure::Refused(format!("failed to write the container ID to the file: {}", go_io_text(&e)))
            })?;
            self.written = true;
        }
        Ok(())
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            // It was made by us and holds nothing.
            let _ = std::fs::remove_file(self.path);
        }
    }
}
