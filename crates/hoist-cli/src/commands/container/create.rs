//! `create`, and the creating half of `run`: the image is pulled when it is missing.

use std::{fs, io::Write};

use hoist_api::reference::Reference;
use hoist_client::{Endpoint, Error, Request};
use serde_json::Value;

use super::super::{
    Command, MANY,
    image::{pull, wanted_platform},
};
use crate::{
    app::{App, Failure, Outcome, client_text},
    flags::Parsed,
    opts::{
        create::{self, Create, Surroundings},
        create_flags::{FLAGS, OLD_FLAGS},
        mount,
    },
};

pub(crate) const COMMAND: Command = Command::action(
    "create",
    "Make a container of an image without starting it",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    (1, MANY),
    run,
)
.flags(&[FLAGS])
.old_flags(OLD_FLAGS)
.aliases(&["container create", "create"])
.runs_a_program();

fn run(app: &App, args: &Parsed) -> Outcome {
    if let Some(why) = create::unsupported(args) {
        return Err(why.into());
    }
    check_pull(app, "create", args)?;
    let create = build(app, "create", args)?;
    let id = create_container(app, args, &create).map_err(|failure| Failure::new(1, failure.text))?;
    println!("{id}");
    Ok(())
}

/// The create request of a command line, which `command` was given.
pub(crate) fn build(app: &App, command: &str, args: &Parsed) -> Outcome<Create> {
    let engine = app.endpoint()?.0;
    let variables = app.config().proxy_variables(&engine.to_string());
    let socket = match engine {
        Endpoint::Unix(path) => path.to_string_lossy().into_owned(),
        // an engine elsewhere has Docker's
        Endpoint::Tcp { .. } => "/var/run/docker.sock".to_owned(),
    };
    for warning in args.all("mount").into_iter().filter_map(mount::deprecation) {
        eprintln!("WARNING: {warning}");
    }
    let create = create::build(args, &Surroundings { socket, variables });
    let create = create.map_err(|why| with_help(app, command, 125, &why))?;
    // the request is right by now: of `create` this is an error like those of the engine, as with Docker
    create::check_platform(args).map_err(|why| match command {
        "create" => Failure::from(why),
        _ => with_help(app, command, 125, &why),
    })?;
    Ok(create)
}

/// `docker: why`, and where the help is.
pub(crate) fn with_help(app: &App, command: &str, code: i32, why: &str) -> Failure {
    let program = app.program;
    Failure::new(code, format!("{program}: {why}\n\nRun '{program} {command} --help' for more information"))
}

pub(crate) fn check_pull(app: &App, command: &str, args: &Parsed) -> Outcome {
    match args.get("pull").unwrap_or("missing") {
        "never" if wants_trust(args) => {
            let why = "--pull=never: content trust asks the image's registry for its signature";
            Err(with_help(app, command, 125, why))
        }
        "always" | "missing" | "never" | "" => Ok(()),
        other => Err(with_help(
            app,
            command,
            125,
            &format!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""),
        )),
    }
}

/// Whether the image's name must be signed; an ID is no name, and who gives one has chosen the very image.
fn wants_trust(args: &Parsed) -> bool {
    pull::wants_trust(args) && !args.args.first().is_some_and(|image| is_id(image))
}

/// When the image is pulled; an empty policy never pulls. Its signature is checked by a pull, also of an image that is here.
pub(crate) fn pull_policy(args: &Parsed) -> &str {
    if wants_trust(args) { "always" } else { args.get("pull").unwrap_or("missing") }
}

/// Names the file that is to hold the container's ID, made before anything else so that nobody else's is lost.
pub(crate) struct IdFile {
    path: String,
    file: Option<fs::File>,
}

impl IdFile {
    pub(crate) fn open(path: &str) -> Outcome<Option<Self>> {
        if path.is_empty() {
            return Ok(None);
        }
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Some(Self { path: path.to_owned(), file: Some(file) })),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(
                125,
                format!("container ID file found, make sure the other container isn't running or delete {path}"),
            )),
            Err(error) => {
                // Docker's client takes every text of this kind for a missing command.
                let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 125 };
                let text = crate::app::open_error(path, &error);
                Err(Failure::new(code, format!("failed to create the container ID file: {text}")))
            }
        }
    }

    pub(crate) fn write(mut self, id: &str) -> Outcome {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(id.as_bytes())
            .map_err(|error| Failure::new(125, format!("failed to write the container ID: {}: {error}", self.path)))
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        // no container, no file
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates the container and returns its ID; warnings go to stderr.
pub(crate) fn create_container(app: &App, args: &Parsed, create: &Create) -> Outcome<String> {
    let image = create.body["Image"].as_str().unwrap_or_default().to_owned();
    check_reference(&image)?;
    let id_file = IdFile::open(args.text("cidfile"))?;
    let policy = pull_policy(args);
    if policy == "always" {
        pull_image(app, args, &image)?;
    }
    let answer = match request(app, args, &create.body) {
        Err(error) if policy == "missing" && is_to_be_pulled(&image, &error) => {
            if !args.is("quiet") {
                eprintln!("Unable to find image '{}' locally", tagged(&image));
            }
            pull_image(app, args, &image)?;
            request(app, args, &create.body)
        }
        other => other,
    };
    let answer = answer?;
    print_warnings(&answer);
    let id = answer["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(file) = id_file {
        file.write(&id)?;
    }
    Ok(id)
}

pub(crate) fn print_warnings(answer: &Value) {
    for warning in answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("WARNING: {warning}");
    }
}

/// Refuses what can be no image name before the engine is asked. IDs are fine.
pub(crate) fn check_reference(image: &str) -> Outcome {
    if is_id(image) {
        return Ok(());
    }
    Reference::parse(image).map(drop).map_err(|why| Failure::new(125, why.to_string()))
}

/// Whole IDs only: a part of one could be a name as well.
fn is_id(image: &str) -> bool {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The image as messages name it: with its tag.
pub(crate) fn tagged(image: &str) -> String {
    Reference::parse(image).map_or_else(|_| image.to_owned(), |name| name.with_default_tag().familiar())
}

/// Whether a create failed because the image is not there, or not for this platform, and has a name to pull it by.
pub(crate) fn is_to_be_pulled(image: &str, error: &Error) -> bool {
    let is_missing = matches!(error, Error::Api { status: 404, message, .. }
        if message.starts_with("No such image") || message.starts_with("image with reference"));
    is_missing && !is_id(image)
}

/// Pulls the image, which with content trust must be signed whatever names it.
pub(crate) fn pull_image(app: &App, args: &Parsed, image: &str) -> Outcome {
    pull::pull(
        app,
        image,
        wanted_platform(args).as_deref(),
        pull::wants_trust(args),
        if args.is("quiet") { pull::Show::Nothing } else { pull::Show::Stderr },
    )
}

fn request(app: &App, args: &Parsed, body: &Value) -> Result<Value, Error> {
    let client = app.client().map_err(|failure| Error::Protocol(failure.text))?;
    let mut request = Request::post("/containers/create");
    if !args.text("name").is_empty() {
        request = request.query("name", args.text("name"));
    }
    if let Some(platform) = wanted_platform(args) {
        request = request.query("platform", platform);
    }
    client.call(request.json(body)?)?.json()
}

/// The exit status that tells a caller why no program ran.
pub(crate) fn exit_code_of(why: &str) -> i32 {
    if why.contains("executable file not found") || why.contains("no such file or directory") {
        127
    } else if why.contains("permission denied") || why.contains("is a directory") {
        126
    } else {
        125
    }
}

/// The text of a client error for messages that have the program's name in front.
pub(crate) fn text_of(error: &Error) -> String {
    client_text(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(flags: &[(&'static str, &str)], image: &str) -> Parsed {
        let mut args = Parsed::default();
        args.args.push(image.to_owned());
        flags.iter().for_each(|(flag, value)| args.set(flag, *value));
        args
    }

    #[test]
    fn an_image_named_by_its_id_alone_is_not_pulled() {
        let missing = |status, message: &str| Error::Api { status, message: message.into(), container: None };
        let id = format!("sha256:{}", "0a".repeat(32));
        let error = missing(404, "No such image: x");
        assert!(is_to_be_pulled("busybox", &error) && is_to_be_pulled("sha256:0a0a", &error));
        assert!(!is_to_be_pulled(&id, &error) && !is_to_be_pulled(&id[7..], &error));
        assert!(!is_to_be_pulled("busybox", &missing(500, "No such image: x")));
    }

    #[test]
    fn content_trust_is_about_names_alone() {
        let trust = [("disable-content-trust", "false")];
        let id = "0a".repeat(32);
        let digest = format!("sha256:{id}");
        for image in [id.as_str(), digest.as_str()] {
            assert_eq!(pull_policy(&parsed(&trust, image)), "missing", "{image}");
            assert!(check_reference(image).is_ok());
        }
        for image in ["busybox", "0a0a0a0a0a0a", "sha256:0a0a", &format!("busybox@{digest}"), &digest[..70]] {
            assert_eq!(pull_policy(&parsed(&trust, image)), "always", "{image}");
        }
        assert_eq!(pull_policy(&parsed(&[("disable-content-trust", "true")], "busybox")), "missing");
        assert_eq!(pull_policy(&parsed(&[("disable-content-trust", "true"), ("pull", "")], "busybox")), "");
        assert!(check_reference(&id.to_uppercase()).is_err() && check_reference("sha256:").is_err());
    }
}
