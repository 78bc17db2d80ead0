//! Go's template language as far as `--format` needs it: text, pipelines, `if`/`with`/`range`, variables, defined
//! templates, the predeclared functions and Docker's own. Parsing is `parse` and `pipeline`, meaning is `eval` and `access`; values are `value`,
//! with what Go's types would have told about Docker's answers in `schema` and `structs`.

mod access;
mod ast;
mod eval;
mod funcs;
mod lex;
mod parse;
mod pipeline;
mod printf;
mod schema;
mod structs;
mod value;

pub(crate) use value::{Nil, Object, Val};

/// A parsed template. Errors of both steps carry Go's text after `template parsing error: `.
pub(crate) struct Template {
    tree: ast::Tree,
}

impl Template {
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        Self::parse_named("", source)
    }

    /// A template whose name its errors show.
    pub(crate) fn parse_named(name: &str, source: &str) -> Result<Self, String> {
        Ok(Self { tree: parse::parse(name, source)? })
    }

    pub(crate) fn execute(&self, data: &Val) -> Result<String, String> {
        eval::execute(&self.tree, data, eval::Mode::Rows)
    }

    /// Executes with functions that leave their text as it is, for the titles of columns.
    pub(crate) fn execute_header(&self, data: &Val) -> Result<String, String> {
        eval::execute(&self.tree, data, eval::Mode::Header)
    }
}

#[cfg(test)]
mod tests;
