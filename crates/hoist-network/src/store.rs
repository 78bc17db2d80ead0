//! The table `network`: definitions of networks. Endpoints are not here; the engine keeps them with its containers.

use hoist_db::{Db, params};

use crate::{Error, Network};

const STEPS: &[&str] = &["
    CREATE TABLE network (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        -- Whether we made the bridge device, and so may change and remove it.
        own_bridge INTEGER NOT NULL,
        -- The definition as JSON.
        definition TEXT NOT NULL
    ) WITHOUT ROWID;
"];

/// A network and whether its bridge device is our own.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) network: Network,
    pub(crate) own_bridge: bool,
}

pub(crate) fn migrate(db: &Db) -> Result<(), Error> {
    Ok(db.migrate("network", STEPS)?)
}

/// All networks in name order. A definition that cannot be read is an error that names it: it is not ours to drop.
pub(crate) fn list(db: &Db) -> Result<Vec<Stored>, Error> {
    let rows: Vec<(String, bool, String)> = db.read(|c| {
        c.prepare_cached("SELECT name, own_bridge, definition FROM network ORDER BY name")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    })?;
    let parse = |(name, own_bridge, definition): (String, bool, String)| {
        let network = serde_json::from_str(&definition)
            .map_err(|error| Error::Other(format!("stored definition of network {name}: {error}")))?;
        Ok(Stored { network, own_bridge })
    };
    rows.into_iter().map(parse).collect()
}

pub(crate) fn save(db: &Db, stored: &Stored) -> Result<(), Error> {
    let network = &stored.network;
    let definition = serde_json::to_string(network)
        .map_err(|error| Error::Other(format!("definition of network {}: {error}", network.name)))?;
    db.write_durable(|tx| {
        tx.execute(
            "INSERT INTO network VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(id) DO UPDATE SET own_bridge = excluded.own_bridge, definition = excluded.definition",
            params![network.id, network.name, stored.own_bridge, definition],
        )
    })?;
    Ok(())
}
