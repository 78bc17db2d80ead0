//! Lists of objects by `--format`: tables with titles, one JSON object a line, or a template for each row.

use std::{
    io::{self, Write},
    rc::Rc,
};

use serde_json::Value;

use super::table;
use crate::{
    app::{Failure, Outcome},
    template::{Object, Template, Val},
};

/// A row: named columns over an object of the engine.
pub(crate) trait Row: 'static {
    /// Names of the columns with their titles.
    const COLUMNS: &'static [(&'static str, &'static str)];
    /// Go's name of the type, for errors.
    const TYPE_NAME: &'static str;
    fn column(&self, name: &str) -> Option<Val>;
    /// A column that takes an argument.
    fn method(&self, _name: &str, _args: &[Val]) -> Option<Result<Val, String>> {
        None
    }
}

struct RowObject<R>(R);

impl<R: Row> Object for RowObject<R> {
    fn field(&self, name: &str, args: &[Val]) -> Option<Result<Val, String>> {
        if let Some(result) = self.0.method(name, args) {
            return Some(result);
        }
        let value = self.0.column(name)?;
        Some(match args {
            [] => Ok(value),
            _ => Err(format!("wrong number of args for {name}: want 0 got {}", args.len())),
        })
    }

    fn type_name(&self) -> String {
        R::TYPE_NAME.to_owned()
    }

    fn to_json(&self) -> Value {
        let mut names: Vec<&str> = R::COLUMNS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let pairs = names.into_iter().filter_map(|name| Some((name.to_owned(), json_of(self.0.column(name)?))));
        Value::Object(pairs.collect())
    }
}

fn json_of(value: Val) -> Value {
    match value {
        Val::Text(text) => Value::String(text),
        Val::Bool(value) => Value::Bool(value),
        Val::Int(number) => number.into(),
        Val::Json(value, _) => value,
        _ => Value::Null,
    }
}

/// The titles, under the names of the columns; `.Label "a.b-c"` has the title `b c`.
struct Titles(&'static [(&'static str, &'static str)]);

impl Object for Titles {
    fn field(&self, name: &str, args: &[Val]) -> Option<Result<Val, String>> {
        if let ("Label", [Val::Text(label)]) = (name, args) {
            let last = label.rsplit('.').next().unwrap_or_default();
            return Some(Ok(Val::Text(last.replace(['-', '_'], " "))));
        }
        let title = self.0.iter().find(|(known, _)| *known == name).map(|(_, title)| Val::text(*title));
        Some(Ok(title.unwrap_or(Val::Missing)))
    }

    fn type_name(&self) -> String {
        "formatter.SubHeaderContext".to_owned()
    }

    fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, title)| ((*name).to_owned(), (*title).into())).collect())
    }
}

pub(crate) const TABLE: &str = "table";

/// Does the template ask for this column? A cheap test by name.
pub(crate) fn mentions(format: &str, column: &str) -> bool {
    format.contains(column)
}

/// The template of a format, without its `table` and with its escapes done.
pub(crate) fn source_of(format: &str) -> String {
    if format == "json" {
        return "{{json .}}".to_owned();
    }
    let source = format.strip_prefix(TABLE).unwrap_or(format);
    source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n")
}

/// A row as a value of templates that show several.
pub(crate) fn object<R: Row>(row: R) -> Val {
    Val::Object(Rc::new(RowObject(row)))
}

/// Tests a template before anything is asked of the engine.
pub(crate) fn check<R: Row + Default>(format: &str) -> Outcome {
    let template = Template::parse(&source_of(format)).map_err(|why| format!("failed to parse template: {why}"))?;
    let row = Val::Object(Rc::new(RowObject(R::default())));
    template.execute(&row).map_err(|why| format!("failed to execute template: {why}"))?;
    Ok(())
}

/// Prints the rows to stdout.
pub(crate) fn print<R: Row>(format: &str, rows: impl IntoIterator<Item = R>) -> Outcome {
    Ok(io::stdout().lock().write_all(render(format, rows)?.as_bytes())?)
}

fn render<R: Row>(format: &str, rows: impl IntoIterator<Item = R>) -> Outcome<String> {
    let broken = |why: String| Failure::from(format!("template parsing error: {why}"));
    let template = Template::parse(&source_of(format)).map_err(broken)?;
    let mut out = String::new();
    for row in rows {
        out.push_str(&template.execute(&Val::Object(Rc::new(RowObject(row)))).map_err(broken)?);
        out.push('\n');
    }
    if !format.starts_with(TABLE) {
        return Ok(out);
    }
    // a template that titles cannot be put into has no title line
    let titles = template.execute_header(&Val::Object(Rc::new(Titles(R::COLUMNS)))).unwrap_or_default();
    Ok(table::align(&format!("{titles}\n{out}"), table::LIST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Pet(&'static str, &'static str);

    impl Row for Pet {
        const COLUMNS: &'static [(&'static str, &'static str)] = &[("Name", "NAME"), ("Kind", "KIND OF PET")];
        const TYPE_NAME: &'static str = "*formatter.petContext";

        fn column(&self, name: &str) -> Option<Val> {
            match name {
                "Name" => Some(Val::text(self.0)),
                "Kind" => Some(Val::text(self.1)),
                _ => None,
            }
        }
    }

    fn pets(format: &str) -> String {
        render(format, [Pet("Tom", "cat"), Pet("Lassie the First", "<dog>")]).unwrap_or_else(|failure| failure.text)
    }

    #[test]
    fn formats_are_tables_json_or_templates() {
        assert_eq!(
            pets(r"table {{.Name}}\t{{.Kind}}"),
            "NAME               KIND OF PET\nTom                cat\nLassie the First   <dog>\n"
        );
        assert_eq!(pets("table {{upper .Name}}"), "NAME\nTOM\nLASSIE THE FIRST\n");
        assert_eq!(pets("{{.Name}}:"), "Tom:\nLassie the First:\n");
        assert_eq!(
            pets("json"),
            "{\"Kind\":\"cat\",\"Name\":\"Tom\"}\n{\"Kind\":\"\\u003cdog\\u003e\",\"Name\":\"Lassie the First\"}\n"
        );
        assert_eq!(
            pets("{{.Age}}"),
            "template parsing error: template: :1:2: executing \"\" at <.Age>: can't evaluate field Age in type *formatter.petContext"
        );
        assert!(check::<Pet>("{{.Age}}").unwrap_err().text.starts_with("failed to execute template: template: :1:2:"));
    }
}
