//! `system df`: what the engine keeps on disk, by kind or object by object.

use std::rc::Rc;

use hoist_api::system::{DiskPart, DiskUsage};
use hoist_client::Request;
use serde_json::Value;

use super::super::{Command, FORMAT_HELP, container::ls::Container, image::ls::Image};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, text},
    format::{
        list::{self, Row},
        text::short_id,
        time, units,
    },
    ours::is_unknown_route,
    template::{Object, Template, Val},
};

const FLAGS: &[Flag] =
    &[text('\0', "format", FORMAT_HELP), switch('v', "verbose", "Show every object that takes space")];

pub(crate) const COMMAND: Command =
    Command::action("df", "Show what the engine keeps on disk", "[OPTIONS]", (0, 0), run).flags(&[FLAGS]);

const TABLE: &str = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n\
    reclaimable: {{.Reclaimable}}\n";
const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t\
    {{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t\
    {{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
const DISK: &str = "table {{.What}}\t{{.Size}}";
const BUILD_CACHE: &str = "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t\
    {{.UsageCount}}\t{{.Shared}}";

fn run(app: &App, args: &Parsed) -> Outcome {
    // without `verbose` engines of every version answer with lists
    let usage: Value = app.client()?.call(Request::get("/system/df"))?.json()?;
    let format = args.text("format");
    if args.is("verbose") {
        return match format {
            "" | "table" => print_tables(&usage).and_then(|()| print_disk(app, true)),
            "raw" => Err("--format raw: not supported together with --verbose".into()),
            custom => print_template(&usage, custom),
        };
    }
    let format = match format {
        "" | "table" => TABLE,
        "raw" => RAW,
        custom => custom,
    };
    list::print(format, [images(&usage), containers(&usage), volumes(&usage), build_cache(&usage)])?;
    if format == TABLE { print_disk(app, false) } else { Ok(()) }
}

/// What only our engine tells: every byte on its disk, beside the lengths of files above, and whose it is.
fn print_disk(app: &App, verbose: bool) -> Outcome {
    let disk: DiskUsage = match app.client()?.call(Request::get("/hoist/system/disk")) {
        Err(error) if is_unknown_route(&error) => return Ok(()),
        answer => answer?.json()?,
    };
    let total = units::human_size(disk.total as f64);
    if verbose {
        println!("\nDisk space below {}: {total}\n", disk.root);
        return list::print(DISK, disk.parts.into_iter().map(Part));
    }
    let parts = disk.parts.iter().filter(|part| part.size > 0);
    let parts: Vec<String> =
        parts.map(|part| format!("{} {}", part.what, units::human_size(part.size as f64))).collect();
    println!("\nOn disk below {}: {total} ({})", disk.root, parts.join(", "));
    Ok(())
}

struct Part(DiskPart);

impl Row for Part {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("What", "WHAT"), ("Size", "SIZE")];
    const TYPE_NAME: &'static str = "*formatter.diskPartContext";

    fn column(&self, name: &str) -> Option<Val> {
        Some(Val::text(match name {
            "What" => self.0.what.clone(),
            "Size" => units::human_size(self.0.size as f64),
            _ => return None,
        }))
    }
}

fn items<'v>(usage: &'v Value, key: &str) -> &'v [Value] {
    usage[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(item: &Value, key: &str) -> i64 {
    item[key].as_i64().unwrap_or_default()
}

/// One kind of objects.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    /// Whether the reclaimable part is told in per cent too.
    in_per_cent: bool,
}

fn images(usage: &Value) -> Kind {
    let items = items(usage, "Images");
    let is_used = |item: &&Value| number(item, "Containers") != 0;
    let own = |item: &Value| match (number(item, "Size"), number(item, "SharedSize")) {
        (-1, _) | (_, -1) => 0,
        (size, shared) => size - shared,
    };
    let used: i64 = items.iter().filter(is_used).map(own).sum();
    let size = number(usage, "LayersSize");
    let active = items.iter().filter(|item| number(item, "Containers") > 0).count();
    Kind { name: "Images", total: items.len(), active, size, reclaimable: size - used, in_per_cent: true }
}

fn containers(usage: &Value) -> Kind {
    let items = items(usage, "Containers");
    let is_active = |item: &&Value| matches!(item["State"].as_str(), Some("running" | "paused" | "restarting"));
    let sum = |wanted: &dyn Fn(&&Value) -> bool| -> i64 {
        items.iter().filter(wanted).map(|item| number(item, "SizeRw")).sum()
    };
    Kind {
        name: "Containers",
        total: items.len(),
        active: items.iter().filter(is_active).count(),
        size: sum(&|_| true),
        reclaimable: sum(&|item| !is_active(item)),
        in_per_cent: true,
    }
}

fn volumes(usage: &Value) -> Kind {
    let items = items(usage, "Volumes");
    let sum = |wanted: &dyn Fn(&&Value) -> bool| -> i64 {
        items.iter().filter(wanted).map(|item| number(&item["UsageData"], "Size").max(0)).sum()
    };
    Kind {
        name: "Local Volumes",
        total: items.len(),
        active: items.iter().filter(|item| number(&item["UsageData"], "RefCount") > 0).count(),
        size: sum(&|_| true),
        reclaimable: sum(&|item| number(&item["UsageData"], "RefCount") == 0),
        in_per_cent: true,
    }
}

fn build_cache(usage: &Value) -> Kind {
    let items = items(usage, "BuildCache");
    let is = |item: &Value, key: &str| item[key].as_bool().unwrap_or_default();
    let sum = |wanted: &dyn Fn(&&Value) -> bool| -> i64 {
        items.iter().filter(|item| !is(item, "Shared")).filter(wanted).map(|item| number(item, "Size")).sum()
    };
    let size = sum(&|_| true);
    Kind {
        name: "Build Cache",
        total: items.len(),
        active: items.iter().filter(|item| is(item, "InUse")).count(),
        size,
        reclaimable: size - sum(&|item| is(item, "InUse")),
        in_per_cent: false,
    }
}

impl Row for Kind {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ];
    const TYPE_NAME: &'static str = "*formatter.diskUsageImagesContext";

    fn column(&self, name: &str) -> Option<Val> {
        Some(Val::text(match name {
            "Type" => self.name.to_owned(),
            "TotalCount" => self.total.to_string(),
            "Active" => self.active.to_string(),
            "Size" => units::human_size(self.size as f64),
            "Reclaimable" => {
                let text = units::human_size(self.reclaimable as f64);
                match self.reclaimable.saturating_mul(100).checked_div(self.size) {
                    Some(part) if self.in_per_cent && self.size > 0 => format!("{text} ({part}%)"),
                    _ => text,
                }
            }
            _ => return None,
        }))
    }
}

struct Volume(Value);

impl Row for Volume {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Driver", "DRIVER"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
    ];
    const TYPE_NAME: &'static str = "*formatter.volumeContext";

    fn column(&self, name: &str) -> Option<Val> {
        let usage = &self.0["UsageData"];
        Some(Val::text(match name {
            "Links" | "Size" if usage.is_null() => "N/A".to_owned(),
            "Links" => number(usage, "RefCount").to_string(),
            "Size" => units::human_size(number(usage, "Size") as f64),
            "Labels" => {
                let labels = self.0["Labels"].as_object();
                let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
                labels.into_iter().flatten().map(pair).collect::<Vec<_>>().join(",")
            }
            "Driver" | "Mountpoint" | "Name" | "Scope" => self.0[name].as_str().unwrap_or_default().to_owned(),
            _ => return None,
        }))
    }
}

struct CacheRecord {
    item: Value,
    trunc: bool,
}

impl Row for CacheRecord {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
        ("InUse", "IN USE"),
        ("Description", "DESCRIPTION"),
    ];
    const TYPE_NAME: &'static str = "*formatter.buildCacheContext";

    fn column(&self, name: &str) -> Option<Val> {
        let text = |key: &str| self.item[key].as_str().unwrap_or_default();
        let since = |key: &str| match text(key).parse::<jiff::Timestamp>() {
            Ok(at) => time::ago(at.as_second()),
            Err(_) => String::new(),
        };
        let is = |key: &str| self.item[key].as_bool().unwrap_or_default();
        Some(Val::text(match name {
            "ID" => {
                let id = if self.trunc { short_id(text("ID")) } else { text("ID") };
                format!("{id}{}", if is("InUse") { "*" } else { "" })
            }
            "CacheType" => text("Type").to_owned(),
            "Size" => units::human_size(number(&self.item, "Size") as f64),
            "CreatedSince" => since("CreatedAt"),
            "LastUsedSince" => since("LastUsedAt"),
            "UsageCount" => number(&self.item, "UsageCount").to_string(),
            "Shared" | "InUse" => is(name).to_string(),
            "Description" => text("Description").to_owned(),
            _ => return None,
        }))
    }
}

/// All objects, by kind.
struct Rows {
    images: Vec<Image>,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
    build_cache: Vec<CacheRecord>,
}

impl Rows {
    fn of(usage: &Value, trunc: bool) -> Self {
        let all = |key: &str| items(usage, key).iter().cloned();
        Self {
            images: all("Images").map(|item| Image::first_tag(item, trunc)).collect(),
            containers: all("Containers")
                .map(|mut item| {
                    // what the image takes is told with the images
                    item["SizeRootFs"] = 0.into();
                    Container { item, trunc }
                })
                .collect(),
            volumes: all("Volumes").map(Volume).collect(),
            build_cache: all("BuildCache").map(|item| CacheRecord { item, trunc }).collect(),
        }
    }
}

fn print_tables(usage: &Value) -> Outcome {
    let rows = Rows::of(usage, true);
    println!("Images space usage:\n");
    list::print(IMAGES, rows.images)?;
    println!("\nContainers space usage:\n");
    list::print(CONTAINERS, rows.containers)?;
    println!("\nLocal Volumes space usage:\n");
    list::print(VOLUMES, rows.volumes)?;
    println!("\nBuild cache usage: {}\n", units::human_size(build_cache(usage).size as f64));
    list::print(BUILD_CACHE, rows.build_cache)
}

/// What a template sees: the objects as fields.
struct Report([(&'static str, Val); 4]);

impl Object for Report {
    fn field(&self, name: &str, _: &[Val]) -> Option<Result<Val, String>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| Ok(value.clone()))
    }

    fn type_name(&self) -> String {
        "*formatter.diskUsageContext".to_owned()
    }

    fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| ((*name).to_owned(), value.to_json())).collect())
    }
}

fn print_template(usage: &Value, format: &str) -> Outcome {
    fn objects<R: Row>(rows: Vec<R>) -> Val {
        Val::List(rows.into_iter().map(list::object).collect())
    }
    let rows = Rows::of(usage, format.starts_with(list::TABLE));
    let report = Report([
        ("Images", objects(rows.images)),
        ("Containers", objects(rows.containers)),
        ("Volumes", objects(rows.volumes)),
        ("BuildCache", objects(rows.build_cache)),
    ]);
    let broken = |why: String| format!("template parsing error: {why}");
    let template = Template::parse(&list::source_of(format)).map_err(broken)?;
    println!("{}", template.execute(&Val::Object(Rc::new(report))).map_err(broken)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_summed_as_docker_sums_them() {
        let usage = json!({
            "LayersSize": 1000,
            "Images": [
                {"Size": 600, "SharedSize": 100, "Containers": 2},
                {"Size": 500, "SharedSize": 100, "Containers": 0},
            ],
            "Containers": [{"State": "running", "SizeRw": 30}, {"State": "exited", "SizeRw": 10}, {"State": "created"}],
            "Volumes": [
                {"UsageData": {"Size": 8, "RefCount": 0}},
                {"UsageData": {"Size": -1, "RefCount": 0}},
                {"UsageData": {"Size": 2, "RefCount": 1}},
            ],
            "BuildCache": null,
        });
        let shown = |kind: Kind| {
            Kind::COLUMNS
                .iter()
                .map(|(name, _)| match kind.column(name) {
                    Some(Val::Text(text)) => text,
                    _ => String::new(),
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(shown(images(&usage)), "Images 2 1 1kB 500B (50%)");
        assert_eq!(shown(containers(&usage)), "Containers 3 1 40B 10B (25%)");
        assert_eq!(shown(volumes(&usage)), "Local Volumes 3 1 10B 8B (80%)");
        assert_eq!(shown(build_cache(&usage)), "Build Cache 0 0 0B 0B");
        assert_eq!(shown(images(&json!({}))), "Images 0 0 0B 0B");
    }
}
