//! `images --tree`: every image with its platforms below it, as far as the terminal is wide.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::ls;
use crate::{
    app::{App, Outcome},
    env,
    flags::Parsed,
    format::{
        text::{display_width, ellipsis, short_id},
        units,
    },
    stream::tty,
};

/// Switches that `--tree` does not go with, and what Docker calls them.
const ALONE: [(&str, &str); 3] = [("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest")];
const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const GAP: &str = "   ";
const WIDTH: usize = 80;
const WIDTH_MIN: usize = 20;
/// Columns behind the name go before that gets narrower.
const NAME_MIN: usize = 12;

/// Prints the tree.
pub(super) fn run(app: &App, args: &Parsed) -> Outcome {
    let switch = ALONE.into_iter().find(|(flag, _)| args.is(flag)).map(|(_, told)| told);
    if let Some(told) = switch.or(args.filled("format").map(|_| "format")) {
        return Err(format!("--{told} is not yet supported with --tree").into());
    }
    let client = app.client()?;
    client.negotiate()?;
    if !client.speaks(47) {
        let version = client.version();
        return Err(format!("\"--tree\" requires API version 1.47, but the engine's API version is {version}").into());
    }
    let mut images = ls::fetch(app, args, true)?;
    images.retain(|image| args.is("all") || !is_dangling(image));
    images.sort_by_key(|image| std::cmp::Reverse(image["Created"].as_i64()));
    let tops: Vec<Top> = images.iter().map(Top::of).collect();
    let is_terminal = io::stdout().is_terminal();
    let width = if is_terminal { tty::size().map_or(0, |(_, columns)| usize::from(columns)) } else { 0 };
    let paint = Paint { on: is_terminal && !env::wants_plain() };
    io::stdout().lock().write_all(render(&tops, width, paint).as_bytes())?;
    Ok(())
}

fn is_dangling(image: &Value) -> bool {
    let only = |key: &str, none: &str| match image[key].as_array().map(Vec::as_slice) {
        None | Some([]) => true,
        Some([one]) => one == none,
        Some(_) => false,
    };
    only("RepoTags", "<none>:<none>") && only("RepoDigests", "<none>@<none>")
}

/// Colours, where there is a terminal to show them.
#[derive(Clone, Copy)]
struct Paint {
    on: bool,
}

const BOLD: &str = "\x1b[39m\x1b[1m";
const NAME: &str = "\x1b[34m\x1b[1m";
const NORMAL: &str = "\x1b[39m";
const FAINT: &str = "\x1b[39m\x1b[2m";
const YELLOW: &str = "\x1b[93m";

impl Paint {
    fn text(self, colour: &str, text: &str) -> String {
        if self.on { format!("{colour}{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The mark of what containers use, or its place.
    fn mark(self, used: bool) -> &'static str {
        match (self.on, used) {
            (true, true) => "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m",
            (true, false) => "   ",
            (false, true) => "U",
            (false, false) => " ",
        }
    }

    fn mark_width(self) -> usize {
        if self.on { 3 } else { 1 }
    }

    fn legend(self, width: usize) -> String {
        let (head, plain) = match self.on {
            true => ("\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m", "i Info →   U  In Use "),
            false => ("Info -> ", "Info ->  U In Use "),
        };
        let before = width.saturating_sub(display_width(plain));
        format!("{:before$}{head} {} In Use ", "", self.mark(true))
    }
}

/// What the columns behind the name show.
struct Details {
    id: String,
    disk_usage: String,
    content_size: String,
    used: bool,
}

struct Top {
    names: Vec<String>,
    details: Details,
    children: Vec<Child>,
}

struct Child {
    platform: String,
    available: bool,
    details: Details,
}

fn size(value: &Value) -> String {
    units::human_size_short(value.as_i64().unwrap_or_default() as f64)
}

impl Top {
    fn of(image: &Value) -> Self {
        let manifests = || image["Manifests"].as_array().into_iter().flatten();
        let content: i64 = manifests().filter_map(|manifest| manifest["Size"]["Content"].as_i64()).sum();
        let children: Vec<Child> = manifests().filter(|manifest| manifest["Kind"] == "image").map(Child::of).collect();
        let used = image["Containers"].as_i64().is_some_and(|count| count > 0);
        let names = image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let details = Details {
            id: short_id(image["Id"].as_str().unwrap_or_default()).to_owned(),
            disk_usage: size(&image["Size"]),
            content_size: units::human_size_short(content as f64),
            used: used || children.iter().any(|child| child.details.used),
        };
        Self { names, details, children }
    }
}

impl Child {
    fn of(manifest: &Value) -> Self {
        let platform = &manifest["ImageData"]["Platform"];
        let part = |key: &str| platform[key].as_str().unwrap_or_default();
        let os = if part("os").is_empty() { "unknown" } else { part("os") };
        let parts = [os, part("architecture"), part("variant")];
        let shown: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let details = Details {
            id: short_id(manifest["ID"].as_str().unwrap_or_default()).to_owned(),
            disk_usage: size(&manifest["Size"]["Total"]),
            content_size: size(&manifest["Size"]["Content"]),
            used: manifest["ImageData"]["Containers"].as_array().is_some_and(|users| !users.is_empty()),
        };
        Self { platform: shown.join("/"), available: manifest["Available"].as_bool().unwrap_or_default(), details }
    }
}

/// The columns that fit, and what is left for the name.
struct Layout {
    paint: Paint,
    name_width: usize,
    columns: Vec<Column>,
    /// Something is marked, so the last column has a place for the mark.
    marks: bool,
}

#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
    show: fn(&Details) -> &str,
}

impl Layout {
    fn of(tops: &[Top], width: usize, paint: Paint) -> Self {
        let marks = tops.iter().any(|top| top.details.used);
        let extra = if marks { paint.mark_width().max(5) } else { 5 };
        let columns = [
            Column { title: "ID", width: 12, right: false, show: |details| &details.id },
            Column { title: "DISK USAGE", width: 10, right: true, show: |details| &details.disk_usage },
            Column { title: "CONTENT SIZE", width: 12, right: true, show: |details| &details.content_size },
            Column { title: "EXTRA", width: extra, right: false, show: |_| "" },
        ];
        let mut left = width;
        let mut fitting = Vec::new();
        for column in columns {
            let needed = column.width + GAP.len();
            if left < needed + NAME_MIN {
                break;
            }
            left -= needed;
            fitting.push(column);
        }
        // Docker counts bytes here, and so the three of each stroke of a branch
        let names = tops.iter().flat_map(|top| &top.names).map(String::len);
        let platforms = tops.iter().flat_map(|top| &top.children).map(|child| child.platform.len() + "└─ ".len());
        let widest = names.chain(platforms).chain(["IMAGE".len()]).max().unwrap_or_default();
        Self { paint, name_width: left.min(widest), columns: fitting, marks }
    }

    fn cell(&self, colour: &str, text: &str, width: usize, right: bool) -> String {
        let used = display_width(text);
        if used > width {
            return self.paint.text(colour, &ellipsis(text, width));
        }
        let (text, space) = (self.paint.text(colour, text), " ".repeat(width - used));
        if right { format!("{space}{text}") } else { format!("{text}{space}") }
    }

    fn name(&self, colour: &str, text: &str) -> String {
        self.cell(colour, text, self.name_width, false)
    }

    fn titles(&self) -> String {
        let mut line = self.name(BOLD, "IMAGE");
        for column in &self.columns {
            line.push_str(GAP);
            line.push_str(&self.cell(BOLD, column.title, column.width, column.right));
        }
        line
    }

    fn details(&self, colour: &str, details: &Details) -> String {
        let mut line = String::new();
        for column in &self.columns {
            line.push_str(GAP);
            if column.title != "EXTRA" {
                line.push_str(&self.cell(colour, (column.show)(details), column.width, column.right));
                continue;
            }
            let (mark, used) =
                if self.marks { (self.paint.mark(details.used), self.paint.mark_width()) } else { ("", 0) };
            line.push_str(mark);
            line.push_str(&" ".repeat(column.width - used));
        }
        line
    }
}

/// `width` is the terminal's, 0 where there is none.
fn render(tops: &[Top], width: usize, paint: Paint) -> String {
    let page = if width == 0 { WIDTH } else { width.max(WIDTH_MIN) };
    let layout = Layout::of(tops, page, paint);
    let spacious = tops.iter().any(|top| !top.children.is_empty());
    let mut out = format!("{}\n{}\n\n{}\n", paint.text(YELLOW, WARNING), paint.legend(page), layout.titles());
    for top in tops {
        let (last, others) = match top.names.split_last() {
            Some((last, others)) => (layout.name(NAME, last), others),
            None => (layout.name(FAINT, "<untagged>"), &[][..]),
        };
        for name in others {
            let name = if width == 0 { name.clone() } else { ellipsis(name, width) };
            out.push_str(&format!("{}\n", paint.text(NAME, &name)));
        }
        out.push_str(&format!("{last}{}\n", layout.details(NORMAL, &top.details)));
        for (position, child) in top.children.iter().enumerate() {
            let branch = if position + 1 == top.children.len() { "└─ " } else { "├─ " };
            let colour = if child.available { NORMAL } else { FAINT };
            let name = layout.name(colour, &format!("{branch}{}", child.platform));
            out.push_str(&format!("{name}{}\n", layout.details(colour, &child.details)));
        }
        if spacious {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tops() -> Vec<Top> {
        let manifest = |id: &str, variant: &str, available: bool| {
            json!({"ID": id, "Kind": "image", "Available": available, "Size": {"Content": 1000, "Total": 2_500_000},
                   "ImageData": {"Platform": {"os": "linux", "architecture": "arm64", "variant": variant},
                                 "Containers": if available { json!(["c"]) } else { json!([]) }}})
        };
        let attestation = json!({"ID": "sha256:3", "Kind": "attestation", "Size": {"Content": 24, "Total": 24}});
        let image = json!({"Id": "sha256:0123456789abcdef", "Size": 1_500_000, "Containers": 0,
                           "RepoTags": ["app:1", "127.0.0.1:5000/application:1"],
                           "Manifests": [manifest("sha256:11", "v8", true), manifest("sha256:22", "", false), attestation]});
        vec![Top::of(&image), Top::of(&json!({"Id": "sha256:ff", "Size": 2, "Containers": -1, "RepoTags": []}))]
    }

    #[test]
    fn platforms_are_branches_of_their_image() {
        let text = render(&tops(), 0, Paint { on: false });
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "IMAGE                          ID             DISK USAGE   CONTENT SIZE   EXTRA",
                "127.0.0.1:5000/application:1",
                "app:1                          0123456789ab        1.5MB         2.02kB   U    ",
                "├─ linux/arm64/v8              11                  2.5MB            1kB   U    ",
                "└─ linux/arm64                 22                  2.5MB            1kB        ",
                "",
                "<untagged>                     ff                     2B             0B        ",
                "",
            ]
        );
    }

    #[test]
    fn narrow_terminals_lose_columns_and_then_letters() {
        let text = render(&tops(), 40, Paint { on: false });
        assert!(text.contains("\nIMAGE          ID             DISK USAGE\n"), "{text}");
        let coloured = render(&tops(), 100, Paint { on: true });
        assert!(coloured.contains("\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m  \n"), "{coloured}");
        assert!(coloured.contains("\x1b[39m\x1b[2m└─ linux/arm64\x1b[0m"), "{coloured}");
    }
}
