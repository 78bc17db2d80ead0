//! The inside of actions: pipelines of commands, the variables they declare, and operands.

use super::{
    ast::{Command, Expr, ExprKind, Pipe},
    funcs,
    lex::Token,
    parse::{Parse, Parser},
};
use crate::flags::check;

impl Parser<'_> {
    /// A pipeline up to and with its closing delimiter.
    pub(super) fn pipe(&mut self, context: &str, in_range: bool) -> Parse<Pipe> {
        self.pipe_until(context, in_range, &Token::Close)
    }

    fn pipe_until(&mut self, context: &str, in_range: bool, end: &Token) -> Parse<Pipe> {
        self.peek_past_space();
        let at = self.tokens.peek().map_or(self.at, |located| located.at);
        let mut pipe = Pipe { at, variables: Vec::new(), assigns: false, commands: Vec::new() };
        let mut first = self.declarations(&mut pipe, in_range)?;
        loop {
            let command = self.command(context, first.take())?;
            let ended = self.next_past_space();
            if let Some(command) = command {
                if !pipe.commands.is_empty() && !is_callable(&command) {
                    let number = pipe.commands.len() + 1;
                    let why = format!("non executable command in pipeline stage {number}");
                    return Err(self.error(why));
                }
                pipe.commands.push(command);
            } else if pipe.commands.is_empty() || ended == Some(Token::Pipe) {
                return Err(self.error(format!("missing value for {context}")));
            }
            match ended {
                Some(Token::Pipe) if matches!(self.peek_past_space(), Some(token) if token == end) => {
                    return Err(self.error(format!("missing value for {context}")));
                }
                Some(Token::Pipe) => {}
                Some(token) if token == *end => return Ok(pipe),
                other => return Err(self.unexpected(other.as_ref(), context)),
            }
        }
    }

    /// `$x :=`, `$x =`, and in ranges `$i, $x :=`. A variable that begins a command instead is given back.
    fn declarations(&mut self, pipe: &mut Pipe, in_range: bool) -> Parse<Option<Expr>> {
        let Some(Token::Variable(name)) = self.peek_past_space().cloned() else { return Ok(None) };
        self.next();
        let at = self.at;
        let had_space = self.peek() == Some(&Token::Space);
        match self.peek_past_space() {
            Some(Token::Declare | Token::Assign) => {
                pipe.assigns = self.next() == Some(Token::Assign);
                self.declare(pipe, name)?;
                Ok(None)
            }
            Some(Token::Comma) if in_range => {
                self.next();
                let Some(Token::Variable(second)) = self.next_past_space() else {
                    return Err(self.error("range can only initialize variables"));
                };
                match self.next_past_space() {
                    Some(Token::Declare) => {}
                    Some(Token::Assign) => pipe.assigns = true,
                    other => return Err(self.unexpected(other.as_ref(), "range")),
                }
                self.declare(pipe, name)?;
                self.declare(pipe, second)?;
                Ok(None)
            }
            _ => {
                let fields = if had_space { Vec::new() } else { self.fields() };
                self.known(&name)?;
                Ok(Some(Expr { at, kind: ExprKind::Variable(name, fields) }))
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, name: String) -> Parse<()> {
        if pipe.assigns {
            self.known(&name)?;
        } else {
            self.variables.push(name.clone());
        }
        pipe.variables.push(name);
        Ok(())
    }

    fn known(&self, name: &str) -> Parse<()> {
        match self.variables.iter().any(|known| known == name) {
            true => Ok(()),
            false => Err(self.error(format!("undefined variable \"${name}\""))),
        }
    }

    fn fields(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(Token::Field(_)) = self.peek() {
            if let Some(Token::Field(name)) = self.next() {
                names.push(name);
            }
        }
        names
    }

    /// The words of one command; nothing if there are none.
    fn command(&mut self, context: &str, first: Option<Expr>) -> Parse<Option<Command>> {
        let mut args: Vec<Expr> = first.into_iter().collect();
        loop {
            match self.peek_past_space() {
                None | Some(Token::Close | Token::RightParen | Token::Pipe) => {
                    return Ok((!args.is_empty()).then_some(Command { args }));
                }
                _ => args.push(self.operand(context)?),
            }
            match self.peek() {
                None | Some(Token::Space | Token::Close | Token::RightParen | Token::Pipe) => {}
                _ => {
                    let token = self.next();
                    return Err(self.unexpected(token.as_ref(), "operand"));
                }
            }
        }
    }

    fn operand(&mut self, context: &str) -> Parse<Expr> {
        let token = self.next();
        let at = self.at;
        let kind = match token {
            Some(Token::Dot) => ExprKind::Dot,
            Some(Token::Field(name)) => {
                let second = self.tokens.peek().map_or(at, |located| located.at);
                let mut names = vec![name];
                names.extend(self.fields());
                // Go names the place of the second field of a chain
                let at = if names.len() > 1 { second } else { at };
                return Ok(Expr { at, kind: ExprKind::Field(names) });
            }
            Some(Token::Variable(name)) => {
                self.known(&name)?;
                return Ok(Expr { at, kind: ExprKind::Variable(name, self.fields()) });
            }
            Some(Token::Number(text)) => match check::parse_int(&text) {
                Ok(number) => ExprKind::Int(number, text),
                Err(_) => ExprKind::Float(text.parse().unwrap_or_default(), text),
            },
            Some(Token::Quoted(value, text)) => ExprKind::Text(value, text),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => ExprKind::Bool(true),
                "false" => ExprKind::Bool(false),
                "nil" => ExprKind::Nil,
                name if funcs::exists(name) => ExprKind::Function(word),
                name => return Err(self.error(format!("function \"{name}\" not defined"))),
            },
            Some(Token::LeftParen) => {
                let pipe = self.pipe_until("parenthesized pipeline", false, &Token::RightParen)?;
                ExprKind::Pipe(Box::new(pipe))
            }
            other => return Err(self.unexpected(other.as_ref(), context)),
        };
        let expr = Expr { at, kind };
        let chain_at = self.tokens.peek().map_or(at, |located| located.at);
        let names = self.fields();
        if names.is_empty() {
            return Ok(expr);
        }
        if matches!(
            expr.kind,
            ExprKind::Bool(_)
                | ExprKind::Int(..)
                | ExprKind::Float(..)
                | ExprKind::Text(..)
                | ExprKind::Nil
                | ExprKind::Dot
        ) {
            let name = &names[0];
            return Err(self.error(format!("unexpected . after term {}", check::quote(&format!("{expr}.{name}")))));
        }
        Ok(Expr { at: chain_at, kind: ExprKind::Chain(Box::new(expr), names) })
    }
}

/// Only functions, methods and the like can take the value of the stage before.
fn is_callable(command: &Command) -> bool {
    let first = command.args.first().map(|arg| &arg.kind);
    !matches!(
        first,
        Some(
            ExprKind::Bool(_)
                | ExprKind::Dot
                | ExprKind::Nil
                | ExprKind::Int(..)
                | ExprKind::Float(..)
                | ExprKind::Text(..)
        )
    )
}
