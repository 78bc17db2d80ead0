//! The engine behind Docker's attach streams: plain bytes in, end of input by closing our half, signals and sizes by
//! requests of their own.

use hoist_client::{Client, Request};

use crate::{app::Outcome, stream::relay::Peer};

/// What a stream belongs to.
pub(crate) enum Target<'a> {
    Container(&'a str),
    Exec(&'a str),
}

pub(crate) struct DockerPeer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) target: Target<'a>,
}

impl Peer for DockerPeer<'_> {
    fn encode_input(&self, input: &[u8]) -> Vec<u8> {
        input.to_vec()
    }

    fn input_end(&self) -> Option<Vec<u8>> {
        None
    }

    fn signal(&mut self, name: &str) -> Vec<u8> {
        if let Target::Container(id) = self.target {
            let request = Request::post(super::path(id, "kill")).query("signal", name);
            // the container may have ended already
            let _ = self.client.call(request).and_then(hoist_client::Response::bytes);
        }
        Vec::new()
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Vec<u8> {
        let path = match self.target {
            Target::Container(id) => super::path(id, "resize"),
            Target::Exec(id) => format!("/exec/{id}/resize"),
        };
        // a process that is just starting has no terminal yet: try again for a moment
        for attempt in 0..10 {
            let request = Request::post(path.clone()).query("h", rows.to_string()).query("w", columns.to_string());
            if self.client.call(request).and_then(hoist_client::Response::bytes).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10 * (attempt + 1)));
        }
        Vec::new()
    }

    fn control(&mut self, _: &[u8]) -> Outcome {
        Ok(())
    }
}
