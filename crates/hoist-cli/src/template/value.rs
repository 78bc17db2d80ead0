//! Values of templates: JSON of the engine with what is known of its Go types, and rows of our lists.

use std::{fmt::Write, rc::Rc};

use serde_json::Value;

use super::{
    schema,
    structs::{self, Empty},
};

/// Which nothing it is; Go prints them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nil {
    Pointer,
    List,
    Map,
}

/// Something whose fields are computed: a row of a list.
pub(crate) trait Object {
    /// The value of `.Name arg…`; `None` if there is no such field.
    fn field(&self, name: &str, args: &[Val]) -> Option<Result<Val, String>>;
    /// Go's name for the type, as error messages have it.
    fn type_name(&self) -> String;
    /// What `{{json .}}` prints.
    fn to_json(&self) -> Value;
}

/// How a piece of JSON is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A `map[string]any`: as decoded, nothing known.
    Raw,
    /// A value of Docker's Go types, found under this field name; the root has the type's name.
    Typed { field: String, is_root: bool },
}

#[derive(Clone)]
pub(crate) enum Val {
    /// Go's zero `reflect.Value`: a missing map key.
    Missing,
    Nil(Nil),
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Json(Value, Shape),
    Object(Rc<dyn Object>),
}

impl Val {
    /// An answer of the engine, seen as the Go type of this name.
    pub(crate) fn typed(value: Value, type_name: &str) -> Self {
        Self::from_json(value, Shape::Typed { field: type_name.to_owned(), is_root: true })
    }

    /// An answer of the engine, seen as decoded JSON.
    pub(crate) fn raw(value: Value) -> Self {
        Self::from_json(value, Shape::Raw)
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn from_json(value: Value, shape: Shape) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(value),
            Value::String(text) => Self::Text(text),
            Value::Null => match &shape {
                Shape::Raw => Self::Missing,
                Shape::Typed { field, .. } => Self::Nil(schema::nil_kind(field)),
            },
            Value::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Float(number.as_f64().unwrap_or_default()),
            },
            other => Self::Json(other, shape),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Missing | Self::Nil(_) => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(number) => (*number).into(),
            Self::Float(number) => serde_json::Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Self::Text(text) => text.clone().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Json(value, _) => value.clone(),
            Self::Object(object) => object.to_json(),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Nil(_) => false,
            Self::Bool(value) => *value,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Json(Value::Array(items), _) => !items.is_empty(),
            Self::Json(Value::Object(map), shape) => !is_map(shape) || !map.is_empty(),
            Self::Json(..) | Self::Object(_) => true,
        }
    }

    pub(super) fn type_name(&self) -> String {
        match self {
            Self::Missing => "<nil>".to_owned(),
            Self::Nil(_) => "nil".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::Text(_) => "string".to_owned(),
            Self::List(_) => "[]string".to_owned(),
            Self::Json(Value::Array(_), _) => "[]interface {}".to_owned(),
            Self::Json(_, Shape::Typed { field, is_root: true }) => field.clone(),
            Self::Json(..) => "map[string]interface {}".to_owned(),
            Self::Object(object) => object.type_name(),
        }
    }

    /// The elements of a list, with what is known of them.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.clone()),
            Self::Json(Value::Array(items), shape) => {
                let shape = element_shape(shape);
                Some(items.iter().map(|item| Self::from_json(item.clone(), shape.clone())).collect())
            }
            Self::Nil(Nil::List) => Some(Vec::new()),
            _ => None,
        }
    }

    /// Keys and values of a map, sorted by key as Go visits them.
    pub(super) fn entries(&self) -> Option<Vec<(String, Self)>> {
        let Self::Json(Value::Object(map), shape) = self else {
            return matches!(self, Self::Nil(Nil::Map)).then(Vec::new);
        };
        let shape = element_shape(shape);
        let mut entries: Vec<(String, Self)> =
            map.iter().map(|(key, value)| (key.clone(), Self::from_json(value.clone(), shape.clone()))).collect();
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        Some(entries)
    }

    /// As Go's `%v` prints it inside other values and for `{{.}}`.
    pub(super) fn print(&self) -> String {
        let mut out = String::new();
        self.print_to(&mut out);
        out
    }

    fn print_to(&self, out: &mut String) {
        match self {
            Self::Missing => out.push_str("<no value>"),
            Self::Nil(Nil::Pointer) => out.push_str("<nil>"),
            Self::Nil(Nil::List) => out.push_str("[]"),
            Self::Nil(Nil::Map) => out.push_str("map[]"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(number) => {
                let _ = write!(out, "{number}");
            }
            Self::Float(number) => out.push_str(&go_float(*number)),
            Self::Text(text) => out.push_str(text),
            Self::List(_) | Self::Json(Value::Array(_), _) => {
                out.push('[');
                for (index, item) in self.items().unwrap_or_default().iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    item.print_inner(out);
                }
                out.push(']');
            }
            Self::Json(Value::Object(map), shape) if !is_map(shape) => print_struct(out, map, shape),
            Self::Json(..) => {
                out.push_str("map[");
                for (index, (key, value)) in self.entries().unwrap_or_default().iter().enumerate() {
                    let _ = write!(out, "{}{key}:", if index > 0 { " " } else { "" });
                    value.print_inner(out);
                }
                out.push(']');
            }
            Self::Object(object) => out.push_str(&super::super::format::json::encode(&object.to_json())),
        }
    }

    /// Inside another value a missing one is a nil interface.
    fn print_inner(&self, out: &mut String) {
        match self {
            Self::Missing => out.push_str("<nil>"),
            other => other.print_to(out),
        }
    }
}

fn print_struct(out: &mut String, map: &serde_json::Map<String, Value>, shape: &Shape) {
    let Shape::Typed { field, .. } = shape else { return };
    let names: Vec<(&str, Option<Empty>)> = match structs::whole(field) {
        Some(fields) => fields.iter().map(|(name, empty)| (*name, Some(*empty))).collect(),
        None => map.keys().map(|name| (name.as_str(), None)).collect(),
    };
    out.push('{');
    let mut is_first = true;
    for (name, empty) in names {
        if name != "}" && !is_first {
            out.push(' ');
        }
        is_first = name == "{";
        if matches!(name, "{" | "}") {
            out.push_str(name);
            continue;
        }
        let key = if empty.is_some() { schema::json_name(field, name, false) } else { Some(name) };
        // left out of the JSON means empty
        match (key.and_then(|key| map.get(key)), empty) {
            (Some(value), _) => {
                let shape = Shape::Typed { field: schema::field_name(field, name), is_root: false };
                Val::from_json(value.clone(), shape).print_inner(out);
            }
            (None, Some(empty)) => Val::from(empty).print_inner(out),
            (None, None) => {}
        }
    }
    out.push('}');
}

pub(super) fn is_map(shape: &Shape) -> bool {
    match shape {
        Shape::Raw => true,
        Shape::Typed { field, is_root } => !is_root && schema::is_map(field),
    }
}

/// Elements of a typed list or map are structs named by their list.
pub(super) fn element_shape(shape: &Shape) -> Shape {
    match shape {
        Shape::Raw => Shape::Raw,
        Shape::Typed { field, .. } => Shape::Typed { field: schema::element_name(field).to_owned(), is_root: false },
    }
}

/// Go's `%v` of a float64: the shortest digits that give it back, an exponent from 21 digits on.
pub(super) fn go_float(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e21).contains(&magnitude) || !number.is_finite() {
        return match number {
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            number => number.to_string(),
        };
    }
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
