//! The progress streams of pull, push, load and import: bars on a terminal, one line a step elsewhere.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
};

use hoist_client::Response;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{
    app::{Failure, Outcome},
    env,
    format::units,
};

/// Where progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Stdout,
    Stderr,
    Nowhere,
}

impl To {
    fn draws_bars(self) -> bool {
        let is_terminal = match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
            Self::Nowhere => false,
        };
        is_terminal && !env::wants_plain()
    }

    fn line(self, text: &str) -> Outcome {
        match self {
            Self::Stdout => writeln!(io::stdout(), "{text}")?,
            Self::Stderr => writeln!(io::stderr(), "{text}")?,
            Self::Nowhere => {}
        }
        Ok(())
    }
}

/// Shows a stream to its end; an error inside it is the command's. Every object is also given to `each`.
pub(crate) fn show(answer: Response, to: To, mut each: impl FnMut(&Value)) -> Outcome {
    let mut bars = to.draws_bars().then(|| Bars::new(to));
    for item in answer.json_stream() {
        let item = item?;
        each(&item);
        if let Some(why) = item["errorDetail"]["message"].as_str().or_else(|| item["error"].as_str()) {
            return Err(Failure::from(why));
        }
        if let Some(text) = item["stream"].as_str() {
            match &bars {
                Some(bars) => bars.above(text.trim_end_matches('\n')),
                None => print_raw(to, text)?,
            }
            continue;
        }
        let (id, status) = (item["id"].as_str().unwrap_or_default(), item["status"].as_str().unwrap_or_default());
        if status.is_empty() {
            continue;
        }
        match &mut bars {
            Some(bars) => bars.update(id, status, &item["progressDetail"]),
            None => plain(to, id, status, &item)?,
        }
    }
    Ok(())
}

fn print_raw(to: To, text: &str) -> Outcome {
    match to {
        To::Stdout => io::stdout().write_all(text.as_bytes())?,
        To::Stderr => io::stderr().write_all(text.as_bytes())?,
        To::Nowhere => {}
    }
    Ok(())
}

/// Without a terminal every step is a line, and the ticks of a step are none.
fn plain(to: To, id: &str, status: &str, item: &Value) -> Outcome {
    let ticks = item["progressDetail"].as_object().is_some_and(|detail| !detail.is_empty());
    if ticks || item["progress"].as_str().is_some_and(|text| !text.is_empty()) {
        return Ok(());
    }
    match id {
        "" => to.line(status),
        id => to.line(&format!("{id}: {status}")),
    }
}

struct Bars {
    all: MultiProgress,
    by_id: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new(to: To) -> Self {
        let target = if to == To::Stdout { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::stderr() };
        Self { all: MultiProgress::with_draw_target(target), by_id: HashMap::new() }
    }

    fn above(&self, text: &str) {
        // a terminal that cannot be drawn on has no use for it
        let _ = self.all.println(text);
    }

    fn update(&mut self, id: &str, status: &str, detail: &Value) {
        // lines about the whole, such as the digest, come below what is done
        if id.is_empty() || status.starts_with("Pulling from") {
            let text = if id.is_empty() { status.to_owned() } else { format!("{id}: {status}") };
            let line = self.all.add(ProgressBar::new_spinner());
            line.set_style(plain_style());
            line.finish_with_message(text);
            return;
        }
        let bar = self.by_id.entry(id.to_owned()).or_insert_with(|| self.all.add(ProgressBar::new(0)));
        let (current, total) = (detail["current"].as_u64(), detail["total"].as_u64().filter(|total| *total > 0));
        match (current, total) {
            (Some(current), Some(total)) => {
                bar.set_style(bar_style());
                bar.set_length(total);
                bar.set_position(current);
                let (current, total) = (units::human_size(current as f64), units::human_size(total as f64));
                bar.set_message(format!("{current}/{total}"));
                bar.set_prefix(format!("{id}: {status}"));
            }
            (Some(current), None) => {
                bar.set_style(plain_style());
                bar.set_message(format!("{id}: {status} {}", units::human_size(current as f64)));
            }
            _ => {
                bar.set_style(plain_style());
                bar.set_message(format!("{id}: {status}"));
                if is_last(status) {
                    bar.finish();
                }
            }
        }
    }
}

fn is_last(status: &str) -> bool {
    matches!(
        status,
        "Pull complete"
            | "Already exists"
            | "Download complete"
            | "Loaded"
            | "Pushed"
            | "Layer already exists"
            | "Skipped foreign layer"
    ) || status.starts_with("Mounted from ")
}

fn bar_style() -> ProgressStyle {
    let style =
        ProgressStyle::with_template("{prefix} [{bar:50}] {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

fn plain_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}
