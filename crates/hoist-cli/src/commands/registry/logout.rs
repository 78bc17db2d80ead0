//! `logout`: forgets the credentials of a registry.

use super::super::Command;
use crate::{
    app::{App, Outcome},
    credentials::{Credentials, HUB_KEY, hostname, warn_of_environment},
    flags::Parsed,
};

pub(crate) const COMMAND: Command =
    Command::action("logout", "Forget the credentials of a registry (default Docker Hub)", "[SERVER]", (0, 1), run);

fn run(app: &App, args: &Parsed) -> Outcome {
    warn_of_environment();
    let given = args.args.first().map_or("", String::as_str);
    let (shown, keys) = match given {
        "" => (HUB_KEY, vec![HUB_KEY.to_owned()]),
        // earlier clients kept credentials under each of these
        server => {
            let host = hostname(server);
            let mut keys =
                vec![server.to_owned(), host.to_owned(), format!("http://{host}"), format!("https://{host}")];
            keys.dedup();
            (host, keys)
        }
    };
    println!("Removing login credentials for {shown}");
    let mut credentials = Credentials::open(app);
    let failed: Vec<(&String, String)> =
        keys.iter().filter_map(|key| Some((key, credentials.erase(key).err()?.text))).collect();
    if failed.len() == keys.len() {
        eprintln!("WARNING: could not erase credentials:");
        for (key, why) in failed {
            eprintln!("{key}: {why}");
        }
    }
    Ok(())
}
