//! From the parts of a source to a program: the statements of Jinja.

use super::ast::{Expression, Filter, LoopSource, MacroSource, Program, Rest, Statement, Target};
use super::lexer::{Part, Token, parts};
use super::meter::Outcome;
use super::parser::{MAX_NESTING, Parser, TOO_DEEP, Tally};
use std::sync::Arc;

/// Compiles `source`.
pub(super) fn compile(source: &str) -> Outcome<Program> {
    let parts = parts(source)?;
    let mut compiler = Compiler {
        parts: parts.into_iter(),
        program: Program::default(),
        tally: Tally::default(),
        nesting: 0,
        loops: 0,
    };
    let (body, end) = compiler.body(&[])?;
    debug_assert!(end.is_none());
    compiler.program.body = body;
    Ok(compiler.program)
}

struct Compiler {
    parts: std::vec::IntoIter<Part>,
    program: Program,
    tally: Tally,
    nesting: usize,
    /// Loops around, in the same macro.
    loops: usize,
}

/// A block that ends or continues the one before it: its name and its tokens.
type End = Option<(String, Vec<Token>)>;

impl Compiler {
    /// Reads statements up to a block of `ends`, or to the end of the source if there are none.
    fn body(&mut self, ends: &[&str]) -> Outcome<(Vec<Statement>, End)> {
        let mut body = Vec::new();
        loop {
            match self.parts.next() {
                None if ends.is_empty() => return Ok((body, None)),
                None => return Err(format!("the source ends before {}", ends.join(" or ")).into()),
                Some(Part::Text(text)) => body.push(Statement::Text(text)),
                Some(Part::Output(tokens)) => {
                    let expression = self.tag(&tokens, |parser| parser.tuple(true))?;
                    body.push(Statement::Output(expression));
                }
                Some(Part::Block(mut tokens)) => {
                    if tokens.is_empty() {
                        return Err("a block is empty".into());
                    }
                    let rest = tokens.split_off(1);
                    let name = match tokens.pop() {
                        Some(Token::Name(name)) => name,
                        _ => return Err("a block does not begin with its name".into()),
                    };
                    if ends.contains(&name.as_str()) {
                        return Ok((body, Some((name, rest))));
                    }
                    if self.nesting >= MAX_NESTING {
                        return Err(TOO_DEEP.into());
                    }
                    self.nesting += 1;
                    self.block(&name, &rest, &mut body)
                        .map_err(|fault| match fault {
                            super::meter::Fault::Message(message)
                                if !message.starts_with("in ") && !message.starts_with("it ") =>
                            {
                                format!("in a block \"{name}\": {message}").into()
                            }
                            other => other,
                        })?;
                    self.nesting -= 1;
                }
            }
        }
    }

    /// Reads a body that ends with a block of that name, which holds nothing else (but its own name again).
    fn body_until(&mut self, end: &str) -> Outcome<Vec<Statement>> {
        self.body(&[end]).map(|(body, _)| body)
    }

    /// Reads all tokens of a tag.
    fn tag<T>(
        &mut self,
        tokens: &[Token],
        read: impl FnOnce(&mut Parser<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut parser = Parser::new(tokens, self.nesting, &mut self.tally);
        let outcome = read(&mut parser)?;
        parser.expect_end()?;
        Ok(outcome)
    }

    fn block(&mut self, name: &str, tokens: &[Token], body: &mut Vec<Statement>) -> Outcome<()> {
        let statement = match name {
            "for" => self.for_block(tokens)?,
            "if" => self.if_block(tokens)?,
            "set" => self.set_block(tokens)?,
            "macro" => {
                let (name, parameters) =
                    self.tag(tokens, |parser| Ok((parser.name()?, parameters(parser)?)))?;
                let index = self.macro_source(&name, parameters, "endmacro")?;
                Statement::Macro(name, index)
            }
            "call" => {
                let (parameters, call) = self.tag(tokens, |parser| {
                    Ok((parameters(parser)?, parser.expression()?))
                })?;
                let index = self.macro_source("caller", parameters, "endcall")?;
                Statement::Call(call, index)
            }
            "filter" => {
                let filters = self.tag(tokens, |parser| parser.filters())?;
                Statement::FilterBlock(filters, self.body_until("endfilter")?)
            }
            "with" => {
                let targets = self.tag(tokens, |parser| {
                    let mut targets = Vec::new();
                    while !parser.is_at_end() {
                        if !targets.is_empty() {
                            parser.expect_sign(",")?;
                        }
                        let target = Target::Name(parser.name()?.into());
                        parser.expect_sign("=")?;
                        targets.push((target, parser.expression()?));
                    }
                    Ok(targets)
                })?;
                Statement::With(targets, self.body_until("endwith")?)
            }
            // It marks answers for training and writes nothing.
            "generation" => {
                self.tag(tokens, |_| Ok(()))?;
                let inner = self.body_until("endgeneration")?;
                body.extend(inner);
                return Ok(());
            }
            "break" | "continue" => {
                self.tag(tokens, |_| Ok(()))?;
                if self.loops == 0 {
                    return Err("it is in no loop".into());
                }
                if name == "break" {
                    Statement::Break
                } else {
                    Statement::Continue
                }
            }
            "include" | "import" | "from" | "extends" | "block" => {
                return Err("templates that are made of several are not supported".into());
            }
            _ => return Err("there is no such block, or none that could end or continue".into()),
        };
        body.push(statement);
        Ok(())
    }

    fn for_block(&mut self, tokens: &[Token]) -> Outcome<Statement> {
        let (target, items, condition, recursive) = self.tag(tokens, |parser| {
            let target = parser.target()?;
            parser.expect_word("in")?;
            let items = parser.tuple(false)?;
            let condition = if parser.word("if") {
                Some(parser.expression()?)
            } else {
                None
            };
            Ok((target, items, condition, parser.word("recursive")))
        })?;
        self.loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let otherwise = match end {
            Some((name, _)) if name == "else" => self.body_until("endfor")?,
            _ => Vec::new(),
        };
        self.program.loops.push(LoopSource {
            target,
            items,
            condition,
            recursive,
            body,
            otherwise,
        });
        Ok(Statement::Loop(self.program.loops.len() - 1))
    }

    fn if_block(&mut self, tokens: &[Token]) -> Outcome<Statement> {
        let mut cases = Vec::new();
        let mut condition = Some(self.tag(tokens, |parser| parser.tuple(true))?);
        loop {
            let ends: &[&str] = if condition.is_some() {
                &["elif", "else", "endif"]
            } else {
                &["endif"]
            };
            let (body, end) = self.body(ends)?;
            cases.push((condition.take(), body));
            match end {
                Some((name, tokens)) if name == "elif" => {
                    condition = Some(self.tag(&tokens, |parser| parser.tuple(true))?);
                }
                Some((name, _)) if name == "else" => {}
                _ => return Ok(Statement::If(cases)),
            }
        }
    }

    fn set_block(&mut self, tokens: &[Token]) -> Outcome<Statement> {
        enum Source {
            Value(Expression),
            Block(Vec<Filter>),
        }
        let (target, source) = self.tag(tokens, |parser| {
            let target = parser.target()?;
            let source = if parser.sign("=") {
                Source::Value(parser.tuple(true)?)
            } else if parser.sign("|") {
                Source::Block(parser.filters()?)
            } else {
                Source::Block(Vec::new())
            };
            Ok((target, source))
        })?;
        Ok(match source {
            Source::Value(value) => Statement::Set(target, value),
            Source::Block(filters) => {
                Statement::SetBlock(target, filters, self.body_until("endset")?)
            }
        })
    }

    fn macro_source(
        &mut self,
        name: &str,
        parameters: Vec<(Arc<str>, Option<Expression>)>,
        end: &str,
    ) -> Outcome<usize> {
        let loops = std::mem::take(&mut self.loops);
        let around = std::mem::take(&mut self.tally.rest);
        let body = self.body_until(end)?;
        self.loops = loops;
        let reads = self.tally.rest;
        self.tally.rest = Rest {
            varargs: around.varargs || reads.varargs,
            kwargs: around.kwargs || reads.kwargs,
            caller: around.caller || reads.caller,
        };
        self.program.macros.push(MacroSource {
            name: name.to_owned(),
            parameters,
            reads,
            body,
        });
        Ok(self.program.macros.len() - 1)
    }
}

/// Parameters in parentheses, with their defaults; none without parentheses.
fn parameters(parser: &mut Parser<'_>) -> Outcome<Vec<(Arc<str>, Option<Expression>)>> {
    let mut parameters = Vec::new();
    if !parser.sign("(") {
        return Ok(parameters);
    }
    while !parser.sign(")") {
        if !parameters.is_empty() {
            parser.expect_sign(",")?;
            if parser.sign(")") {
                break;
            }
        }
        let name = parser.name()?.into();
        let default = if parser.sign("=") {
            Some(parser.expression()?)
        } else {
            None
        };
        parameters.push((name, default));
    }
    Ok(parameters)
}
