//! Executes a parsed template on a value.

use super::{
    access::field,
    ast::{Command, Expr, ExprKind, Node, Pipe, Tree},
    funcs,
    value::{Nil, Shape, Val},
};

/// Deepest nesting of `{{template}}` calls.
const DEPTH_LIMIT: usize = 200;
/// Nodes executed and rounds of `range`; a template that takes more was not meant to end.
const STEP_LIMIT: usize = 1_000_000;
/// Longest text that one template makes.
const OUTPUT_LIMIT_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Rows,
    /// Docker's functions hand their text through.
    Header,
}

struct Eval<'t> {
    tree: &'t Tree,
    mode: Mode,
    out: String,
    variables: Vec<(&'t str, Val)>,
    depth: usize,
    steps: usize,
    template: &'t str,
    /// On bare JSON a missing key is an error, as Docker asks of Go there.
    strict: bool,
}

enum Flow {
    Next,
    Break,
    Continue,
}

type Done<T> = Result<T, String>;

pub(super) fn execute(tree: &Tree, data: &Val, mode: Mode) -> Done<String> {
    let strict = matches!(data, Val::Json(_, Shape::Raw));
    let mut eval = Eval {
        tree,
        mode,
        out: String::new(),
        variables: vec![("", data.clone())],
        depth: 0,
        steps: 0,
        template: &tree.name,
        strict,
    };
    eval.walk(&tree.root, data)?;
    Ok(eval.out)
}

impl<'t> Eval<'t> {
    fn error(&self, at: usize, context: &str, why: impl AsRef<str>) -> String {
        let source = &self.tree.source[..at.min(self.tree.source.len())];
        let line = source.matches('\n').count() + 1;
        let column = source.len() - source.rfind('\n').map_or(0, |found| found + 1);
        let mut short: String = context.chars().take(20).collect();
        if context.len() > 20 {
            short.push_str("...");
        }
        format!(
            "template: {}:{line}:{column}: executing \"{}\" at <{short}>: {}",
            self.tree.name,
            self.template,
            why.as_ref()
        )
    }

    /// Counts what is done: neither time nor text is without end.
    fn step(&mut self) -> Done<()> {
        self.steps += 1;
        if self.steps > STEP_LIMIT || self.out.len() > OUTPUT_LIMIT_BYTES {
            return Err(format!("template: {}: the template does not end", self.tree.name));
        }
        Ok(())
    }

    fn walk(&mut self, nodes: &'t [Node], dot: &Val) -> Done<Flow> {
        for node in nodes {
            self.step()?;
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.out.push_str(&value.print());
                    }
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
                Node::Template { at, name, pipe } => self.call_template(*at, name, pipe.as_ref(), dot)?,
                Node::If { pipe, then, otherwise } => {
                    let scope = self.variables.len();
                    let branch = if self.pipe(pipe, dot)?.is_true() { then } else { otherwise };
                    let flow = self.walk(branch, dot)?;
                    self.variables.truncate(scope);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::With { pipe, then, otherwise } => {
                    let scope = self.variables.len();
                    let value = self.pipe(pipe, dot)?;
                    let flow = if value.is_true() { self.walk(then, &value)? } else { self.walk(otherwise, dot)? };
                    self.variables.truncate(scope);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::Range { pipe, body, otherwise } => {
                    let scope = self.variables.len();
                    let flow = self.range(pipe, body, otherwise, dot)?;
                    self.variables.truncate(scope);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
            }
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, pipe: &'t Pipe, body: &'t [Node], otherwise: &'t [Node], dot: &Val) -> Done<Flow> {
        let value = self.pipe_value(pipe, dot)?;
        let pairs: Box<dyn Iterator<Item = (Val, Val)>> = if let Some(items) = value.items() {
            Box::new(items.into_iter().enumerate().map(|(index, item)| (Val::Int(index as i64), item)))
        } else if let Some(entries) = value.entries() {
            Box::new(entries.into_iter().map(|(key, item)| (Val::Text(key), item)))
        } else {
            match &value {
                Val::Int(count) => Box::new((0..*count).map(|index| (Val::Int(index), Val::Int(index)))),
                Val::Missing | Val::Nil(_) => Box::new(std::iter::empty()),
                other => {
                    let why = format!("range can't iterate over {}", other.print());
                    return Err(self.error(pipe.at, &pipe.to_string(), why));
                }
            }
        };
        let mut pairs = pairs.peekable();
        if pairs.peek().is_none() {
            return self.walk(otherwise, dot);
        }
        for (index, item) in pairs {
            self.step()?;
            let scope = self.variables.len();
            match pipe.variables.as_slice() {
                [] => {}
                [one] => self.bind(pipe.assigns, one, item.clone()),
                [first, second, ..] => {
                    self.bind(pipe.assigns, first, index);
                    self.bind(pipe.assigns, second, item.clone());
                }
            }
            let flow = self.walk(body, &item)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn bind(&mut self, assigns: bool, name: &'t str, value: Val) {
        if assigns && let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            slot.1 = value;
        } else {
            self.variables.push((name, value));
        }
    }

    fn call_template(&mut self, at: usize, name: &'t str, pipe: Option<&'t Pipe>, dot: &Val) -> Done<()> {
        let context = || format!("{{{{template {}}}}}", crate::flags::check::quote(name));
        let Some(nodes) = self.tree.defined.get(name) else {
            return Err(self.error(at, &context(), format!("template \"{name}\" not defined")));
        };
        if self.depth >= DEPTH_LIMIT {
            return Err(self.error(at, &context(), format!("exceeded maximum template depth ({DEPTH_LIMIT})")));
        }
        let value = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Val::Missing,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("", value.clone())]);
        let outer = std::mem::replace(&mut self.template, name);
        self.depth += 1;
        self.walk(nodes, &value)?;
        self.depth -= 1;
        self.template = outer;
        self.variables = variables;
        Ok(())
    }

    fn pipe(&mut self, pipe: &'t Pipe, dot: &Val) -> Done<Val> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.variables {
            self.bind(pipe.assigns, name, value.clone());
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &'t Pipe, dot: &Val) -> Done<Val> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Val::Missing))
    }

    fn command(&mut self, command: &'t Command, dot: &Val, last: Option<Val>) -> Done<Val> {
        let Some((first, rest)) = command.args.split_first() else { return Ok(Val::Missing) };
        match &first.kind {
            ExprKind::Function(name) => self.call(first, name, rest, dot, last),
            ExprKind::Field(names) => {
                let args = self.args(rest, dot, last)?;
                self.chain(first, dot.clone(), names, &args)
            }
            ExprKind::Variable(name, names) => {
                let args = self.args(rest, dot, last)?;
                let value = self.variable(name);
                self.chain(first, value, names, &args)
            }
            ExprKind::Chain(inner, names) => {
                let args = self.args(rest, dot, last)?;
                let value = self.value(inner, dot)?;
                self.chain(first, value, names, &args)
            }
            ExprKind::Pipe(pipe) if rest.is_empty() && last.is_none() => self.pipe(pipe, dot),
            ExprKind::Nil => Err(self.error(first.at, "nil", "nil is not a command")),
            _ if !rest.is_empty() || last.is_some() => {
                Err(self.error(first.at, &first.to_string(), format!("can't give argument to non-function {first}")))
            }
            _ => self.value(first, dot),
        }
    }

    fn args(&mut self, exprs: &'t [Expr], dot: &Val, last: Option<Val>) -> Done<Vec<Val>> {
        let mut args = exprs.iter().map(|expr| self.value(expr, dot)).collect::<Done<Vec<Val>>>()?;
        args.extend(last);
        Ok(args)
    }

    fn call(&mut self, at: &Expr, name: &str, exprs: &'t [Expr], dot: &Val, last: Option<Val>) -> Done<Val> {
        // `and` and `or` stop at the first argument that decides
        if matches!(name, "and" | "or") {
            let count = exprs.len() + usize::from(last.is_some());
            if count == 0 {
                let why = format!("wrong number of args for {name}: want at least 1 got 0");
                return Err(self.error(at.at, name, why));
            }
            let mut value = Val::Missing;
            for expr in exprs {
                value = self.value(expr, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let args = self.args(exprs, dot, last)?;
        funcs::check_count(name, args.len()).map_err(|why| self.error(at.at, name, why))?;
        if self.mode == Mode::Header && funcs::is_docker(name) {
            return Ok(args.into_iter().next().unwrap_or(Val::Missing));
        }
        funcs::call(name, &args).map_err(|why| {
            let context = match exprs {
                [] => name.to_owned(),
                exprs => {
                    let exprs: Vec<String> = exprs.iter().map(ToString::to_string).collect();
                    format!("{name} {}", exprs.join(" "))
                }
            };
            match why {
                funcs::Why::Call(why) => self.error(at.at, &context, format!("error calling {name}: {why}")),
                funcs::Why::NoFunction { got } => {
                    let what = exprs.first().map(ToString::to_string).unwrap_or_default();
                    let why = format!("error calling {name}: non-function {what} of type {got}");
                    self.error(at.at, &context, why)
                }
                funcs::Why::Type { index, expected, got } => {
                    let arg = exprs.get(index);
                    let why = match arg.map(|arg| &arg.kind) {
                        Some(ExprKind::Int(..) | ExprKind::Float(..) | ExprKind::Bool(_) | ExprKind::Text(..)) => {
                            format!("expected {expected}; found {}", arg.map(ToString::to_string).unwrap_or_default())
                        }
                        _ => match got {
                            Some(got) => format!("wrong type for value; expected {expected}; got {got}"),
                            None => format!("invalid value; expected {expected}"),
                        },
                    };
                    self.error(arg.map_or(at.at, |arg| arg.at), &arg.map_or(context, ToString::to_string), why)
                }
            }
        })
    }

    fn variable(&self, name: &str) -> Val {
        self.variables.iter().rev().find(|(known, _)| *known == name).map_or(Val::Missing, |(_, value)| value.clone())
    }

    fn value(&mut self, expr: &'t Expr, dot: &Val) -> Done<Val> {
        match &expr.kind {
            ExprKind::Dot => Ok(dot.clone()),
            ExprKind::Nil => Ok(Val::Nil(Nil::Pointer)),
            ExprKind::Bool(value) => Ok(Val::Bool(*value)),
            ExprKind::Int(number, _) => Ok(Val::Int(*number)),
            ExprKind::Float(number, _) => Ok(Val::Float(*number)),
            ExprKind::Text(text, _) => Ok(Val::Text(text.clone())),
            ExprKind::Field(names) => self.chain(expr, dot.clone(), names, &[]),
            ExprKind::Variable(name, names) => {
                let value = self.variable(name);
                self.chain(expr, value, names, &[])
            }
            ExprKind::Function(name) => self.call(expr, name, &[], dot, None),
            ExprKind::Chain(inner, names) => {
                let value = self.value(inner, dot)?;
                self.chain(expr, value, names, &[])
            }
            ExprKind::Pipe(pipe) => self.pipe(pipe, dot),
        }
    }

    /// Follows fields; arguments go to the last of them.
    fn chain(&self, expr: &Expr, mut value: Val, names: &[String], args: &[Val]) -> Done<Val> {
        if names.is_empty() && !args.is_empty() {
            return Err(self.error(expr.at, &expr.to_string(), format!("can't give argument to non-function {expr}")));
        }
        for (index, name) in names.iter().enumerate() {
            let args = if index + 1 == names.len() { args } else { &[] };
            value =
                field(&value, name, args, self.strict).map_err(|why| self.error(expr.at, &expr.to_string(), why))?;
        }
        Ok(value)
    }
}
