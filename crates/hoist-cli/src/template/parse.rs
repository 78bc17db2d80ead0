//! Builds the tree of a template from its tokens, with the errors Go's parser gives. What is inside of an action is
//! `pipeline`'s.

use super::{
    ast::{Node, Tree},
    lex::{Located, Token, describe, lex},
};

pub(super) struct Parser<'a> {
    source: &'a str,
    pub(super) tokens: std::iter::Peekable<std::vec::IntoIter<Located>>,
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    tree: Tree,
}

/// Deepest nesting of blocks; each level is a few frames of ours.
const DEPTH_LIMIT: usize = 100;

pub(super) type Parse<T> = Result<T, String>;

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
    pub(super) fn error(&self, why: impl AsRef<str>) -> String {
        let line = self.source[..self.at.min(self.source.len())].matches('\n').count() + 1;
        format!("template: {}:{line}: {}", self.tree.name, why.as_ref())
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let located = self.tokens.next()?;
        self.at = located.at;
        Some(located.token)
    }

    pub(super) fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|located| &located.token)
    }

    pub(super) fn peek_past_space(&mut self) -> Option<&Token> {
        while self.peek() == Some(&Token::Space) {
            self.next();
        }
        self.peek()
    }

    pub(super) fn next_past_space(&mut self) -> Option<Token> {
        self.peek_past_space();
        self.next()
    }

    pub(super) fn unexpected(&self, token: Option<&Token>, context: &str) -> String {
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
}

enum Step {
    Node(Node),
    Nothing,
    End,
    Else,
}
