//! Builds the tree of a template from its tokens, with the errors Go's parser gives.

use super::{
    ast::{Command, Expr, ExprKind, Node, Pipe, Tree},
    funcs,
    lex::{Located, Token, lex},
};
use crate::flags::check;

struct Parser<'a> {
    source: &'a str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Located>>,
    at: usize,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    tree: Tree,
}

/// Deepest nesting of blocks; each level is a few frames of ours.
const DEPTH_LIMIT: usize = 100;

type Parse<T> = Result<T, String>;

/// Why a list of nodes ended.
enum Stop {
    Input,
    End,
    Else,
}

pub(super) fn parse(name: &str, source: &str) -> Parse<Tree> {
    let line_of = |at: usize| source[..at].matches('\n').count() + 1;
    let tokens = lex(source).map_err(|(at, why)| format!("template: {name}:{}: {why}", line_of(at)))?;
    let mut parser = Parser {
        source,
        tokens: tokens.into_iter().peekable(),
        at: 0,
        variables: vec![String::new()],
        range_depth: 0,
        depth: 0,
        tree: Tree { name: name.to_owned(), source: source.to_owned(), ..Tree::default() },
    };
    let (nodes, end) = parser.list()?;
    match end {
        Stop::Input => parser.tree.root = nodes,
        Stop::End => return Err(parser.error("unexpected {{end}}")),
        Stop::Else => return Err(parser.error("unexpected {{else}}")),
    }
    Ok(parser.tree)
}

impl Parser<'_> {
    fn error(&self, why: impl AsRef<str>) -> String {
        let line = self.source[..self.at.min(self.source.len())].matches('\n').count() + 1;
        format!("template: {}:{line}: {}", self.tree.name, why.as_ref())
    }

    fn next(&mut self) -> Option<Token> {
        let located = self.tokens.next()?;
        self.at = located.at;
        Some(located.token)
    }

    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|located| &located.token)
    }

    fn peek_past_space(&mut self) -> Option<&Token> {
        while self.peek() == Some(&Token::Space) {
            self.next();
        }
        self.peek()
    }

    fn next_past_space(&mut self) -> Option<Token> {
        self.peek_past_space();
        self.next()
    }

    fn unexpected(&self, token: Option<&Token>, context: &str) -> String {
        self.error(format!("unexpected {} in {context}", describe(token)))
    }

    fn list(&mut self) -> Parse<(Vec<Node>, Stop)> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(self.error("template is nested too deeply"));
        }
        let list = self.nodes();
        self.depth -= 1;
        list
    }

    fn nodes(&mut self) -> Parse<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        loop {
            match self.next() {
                None => return Ok((nodes, Stop::Input)),
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(Token::Open) => match self.action()? {
                    Step::Node(node) => nodes.push(node),
                    Step::Nothing => {}
                    Step::End => return Ok((nodes, Stop::End)),
                    Step::Else => return Ok((nodes, Stop::Else)),
                },
                other => return Err(self.unexpected(other.as_ref(), "input")),
            }
        }
    }

    fn action(&mut self) -> Parse<Step> {
        let word = match self.peek_past_space() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let keyword = matches!(
            word.as_str(),
            "if" | "with" | "range" | "end" | "else" | "define" | "template" | "block" | "break" | "continue"
        );
        if !keyword {
            return Ok(Step::Node(Node::Action(self.pipe("command", false)?)));
        }
        self.next();
        match word.as_str() {
            "if" => Ok(Step::Node(self.control("if")?)),
            "with" => Ok(Step::Node(self.control("with")?)),
            "range" => Ok(Step::Node(self.control("range")?)),
            "end" => self.close("end").map(|()| Step::End),
            // the word behind `else` is left for `control`
            "else" => Ok(Step::Else),
            "define" => self.define(),
            "template" => self.template(),
            "block" => self.block(),
            word => {
                if self.range_depth == 0 {
                    return Err(self.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(&format!("{{{{{word}}}}}"))?;
                Ok(Step::Node(if word == "break" { Node::Break } else { Node::Continue }))
            }
        }
    }

    fn close(&mut self, context: &str) -> Parse<()> {
        match self.next_past_space() {
            Some(Token::Close) => Ok(()),
            other => Err(self.unexpected(other.as_ref(), context)),
        }
    }

    fn control(&mut self, keyword: &str) -> Parse<Node> {
        let scope = self.variables.len();
        let pipe = self.pipe(keyword, keyword == "range")?;
        if keyword == "range" {
            self.range_depth += 1;
        }
        let (then, end) = self.list()?;
        if keyword == "range" {
            self.range_depth -= 1;
        }
        let otherwise = match end {
            Stop::Input => return Err(self.error("unexpected EOF")),
            Stop::End => Vec::new(),
            Stop::Else => self.otherwise(keyword)?,
        };
        self.variables.truncate(scope);
        Ok(match keyword {
            "if" => Node::If { pipe, then, otherwise },
            "with" => Node::With { pipe, then, otherwise },
            _ => Node::Range { pipe, body: then, otherwise },
        })
    }

    fn otherwise(&mut self, keyword: &str) -> Parse<Vec<Node>> {
        if let Some(Token::Word(word)) = self.peek_past_space()
            && word == keyword
            && keyword != "range"
        {
            // `{{else if}}` shares the outer `{{end}}`
            self.next();
            return Ok(vec![self.control(keyword)?]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Else) => Err(self.error("expected end; found {{else}}")),
            (_, Stop::Input) => Err(self.error("unexpected EOF")),
        }
    }

    fn name(&mut self, context: &str) -> Parse<String> {
        match self.next_past_space() {
            Some(Token::Quoted(name, _)) => Ok(name),
            other => Err(self.unexpected(other.as_ref(), context)),
        }
    }

    fn body(&mut self) -> Parse<Vec<Node>> {
        let outer = std::mem::replace(&mut self.variables, vec![String::new()]);
        let (nodes, end) = self.list()?;
        self.variables = outer;
        match end {
            Stop::End => Ok(nodes),
            _ => Err(self.error("unexpected EOF")),
        }
    }

    fn define(&mut self) -> Parse<Step> {
        let name = self.name("define clause")?;
        self.close("define clause")?;
        let nodes = self.body()?;
        self.tree.defined.insert(name, nodes);
        Ok(Step::Nothing)
    }

    fn template(&mut self) -> Parse<Step> {
        let name = self.name("template clause")?;
        let at = self.at;
        let pipe = match self.peek_past_space() {
            Some(Token::Close) => {
                self.next();
                None
            }
            _ => Some(self.pipe("template clause", false)?),
        };
        Ok(Step::Node(Node::Template { at, name, pipe }))
    }

    fn block(&mut self) -> Parse<Step> {
        let at = self.at;
        let name = self.name("block clause")?;
        let pipe = self.pipe("block clause", false)?;
        let nodes = self.body()?;
        self.tree.defined.entry(name.clone()).or_insert(nodes);
        Ok(Step::Node(Node::Template { at, name, pipe: Some(pipe) }))
    }

    /// A pipeline up to and with its closing delimiter.
    fn pipe(&mut self, context: &str, in_range: bool) -> Parse<Pipe> {
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

enum Step {
    Node(Node),
    Nothing,
    End,
    Else,
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

fn describe(token: Option<&Token>) -> String {
    match token {
        None => "EOF".to_owned(),
        Some(Token::Open) => "\"{{\"".to_owned(),
        Some(Token::Close) => "\"}}\"".to_owned(),
        Some(Token::Space) => "\" \"".to_owned(),
        Some(Token::Field(name)) => format!("<.{name}>"),
        Some(Token::Variable(name)) => check::quote(&format!("${name}")),
        Some(Token::Word(word)) => match word.as_str() {
            "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                format!("<{word}>")
            }
            _ => check::quote(word),
        },
        Some(Token::Text(text) | Token::Number(text)) => check::quote(text),
        Some(Token::Quoted(_, text)) => check::quote(text),
        Some(Token::Char(c)) => check::quote(&c.to_string()),
        Some(Token::Declare) => "\":=\"".to_owned(),
        Some(Token::Assign) => "\"=\"".to_owned(),
        Some(Token::Pipe) => "\"|\"".to_owned(),
        Some(Token::LeftParen) => "\"(\"".to_owned(),
        Some(Token::RightParen) => "\")\"".to_owned(),
        Some(Token::Dot) => "<.>".to_owned(),
        Some(Token::Comma) => "\",\"".to_owned(),
    }
}
