//! Parts of values: fields by name, elements by number or key.

use serde_json::{Map, Value};

use super::{
    schema, structs,
    value::{Nil, Shape, Val, element_shape, is_map},
};

type Found = Result<Val, String>;

/// What `.name` is; arguments are for methods.
pub(super) fn field(value: &Val, name: &str, args: &[Val], strict: bool) -> Found {
    let no_method = || format!("{name} is not a method but has arguments");
    match value {
        Val::Object(object) => object
            .field(name, args)
            .unwrap_or_else(|| Err(format!("can't evaluate field {name} in type {}", object.type_name()))),
        Val::Json(Value::Object(map), shape) => {
            if !args.is_empty() {
                return Err(no_method());
            }
            let found = match shape {
                Shape::Typed { field, is_root } if !is_map(shape) => {
                    // an object that has no `Id` really has an `ID`
                    let has_id = *is_root && map.contains_key("Id");
                    schema::json_name(field, name, has_id).and_then(|name| map.get(name))
                }
                _ => map.get(name),
            };
            match (found, shape) {
                (Some(found), Shape::Raw) => Ok(Val::from_json(found.clone(), Shape::Raw)),
                (None, Shape::Raw) => Err(format!("map has no entry for key {}", crate::flags::check::quote(name))),
                (Some(found), _) if is_map(shape) => Ok(Val::from_json(found.clone(), element_shape(shape))),
                (None, _) if is_map(shape) => Ok(Val::Missing),
                (Some(found), Shape::Typed { field, .. }) => {
                    let shape = Shape::Typed { field: schema::field_name(field, name), is_root: false };
                    Ok(Val::from_json(found.clone(), shape))
                }
                (None, Shape::Typed { field, .. }) => absent(map, field, name),
            }
        }
        Val::Missing if strict => Err(format!("nil data; no entry for key {}", crate::flags::check::quote(name))),
        Val::Missing => Ok(Val::Missing),
        // a map that is nothing has no keys
        Val::Nil(Nil::Map) => Ok(Val::Missing),
        Val::Nil(_) => Err(format!("nil pointer evaluating interface {{}}.{name}")),
        other => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
    }
}

/// What a field is that the JSON leaves out of the struct `parent`.
fn absent(map: &Map<String, Value>, parent: &str, name: &str) -> Found {
    let Some(empty) = structs::absent(parent, name) else {
        return Err(format!("can't evaluate field {name} in type {parent}"));
    };
    let default = map.get("Networks").and_then(|networks| networks.get("bridge")).and_then(|bridge| bridge.get(name));
    match default {
        // engines stopped to tell this twice with API 1.52
        Some(found) if parent == "NetworkSettings" && structs::is_of_default_network(name) => {
            Ok(Val::from_json(found.clone(), Shape::Typed { field: name.to_owned(), is_root: false }))
        }
        _ => Ok(empty.into()),
    }
}

/// What `index` finds: elements of lists by number, of maps by key.
pub(super) fn index(value: &Val, key: &Val) -> Found {
    if let Some(items) = value.items() {
        let Val::Int(at) = key else { return Err(format!("cannot index slice/array with type {}", key.type_name())) };
        let found = usize::try_from(*at).ok().and_then(|at| items.get(at).cloned());
        return found.ok_or_else(|| format!("index out of range: {at}"));
    }
    match (value, key) {
        (Val::Json(Value::Object(map), shape), Val::Text(name)) => {
            if !is_map(shape) {
                return Err(format!("can't index item of type {}", value.type_name()));
            }
            if matches!(shape, Shape::Typed { field, .. } if schema::has_port_keys(field)) {
                return Err("value has type string; should be nat.Port".to_owned());
            }
            match (map.get(name), shape) {
                (Some(found), _) => Ok(Val::from_json(found.clone(), element_shape(shape))),
                (None, Shape::Typed { field, .. }) if schema::holds_text(field) => Ok(Val::text("")),
                (None, Shape::Typed { field, .. }) => Ok(Val::Nil(schema::nil_kind(schema::element_name(field)))),
                (None, Shape::Raw) => Ok(Val::Missing),
            }
        }
        (Val::Nil(Nil::Map), Val::Text(_)) => Ok(Val::Nil(Nil::List)),
        (Val::Json(Value::Object(_), _), other) => {
            Err(format!("value has type {}; should be string", other.type_name()))
        }
        (Val::Text(text), Val::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            found.map(|byte| Val::Int(i64::from(*byte))).ok_or_else(|| "reflect: string index out of range".to_owned())
        }
        (Val::Missing | Val::Nil(_), _) => Err("index of untyped nil".to_owned()),
        (other, _) => Err(format!("can't index item of type {}", other.type_name())),
    }
}
