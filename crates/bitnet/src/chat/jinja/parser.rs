//! Expressions of Jinja.

use super::ast::{Argument, Comparison, Expression, Filter, Operator, Rest, Suffix, Target};
use super::lexer::Token;
use super::meter::{Fault, Outcome};

/// Brackets in brackets, blocks in blocks and the like: no deeper than this, all together.
pub(super) const MAX_NESTING: usize = 40;

/// Nodes of a whole template.
const MAX_NODES: usize = 200_000;

/// Reads the tokens of one tag.
pub(super) struct Parser<'t> {
    tokens: &'t [Token],
    nesting: usize,
    tally: &'t mut Tally,
}

/// What was read of a template so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    nodes: usize,
    /// What the macro around it reads.
    pub(super) rest: Rest,
}

/// Operators from weak to strong, above comparisons and except `~`, which is between the first two.
const SUM: [(&str, Operator); 2] = [("+", Operator::Add), ("-", Operator::Subtract)];
const PRODUCT: [(&str, Operator); 4] = [
    ("*", Operator::Multiply),
    ("/", Operator::Divide),
    ("//", Operator::FloorDivide),
    ("%", Operator::Remainder),
];
const POWER: [(&str, Operator); 1] = [("**", Operator::Power)];

/// Operators of one strength: those of a chain, or `~`.
const LEVELS: [&[(&str, Operator)]; 4] = [&SUM, &[], &PRODUCT, &POWER];

impl<'t> Parser<'t> {
    pub(super) fn new(tokens: &'t [Token], nesting: usize, tally: &'t mut Tally) -> Self {
        Self {
            tokens,
            nesting,
            tally,
        }
    }

    pub(super) fn name(&mut self) -> Outcome<String> {
        match self.tokens.split_first() {
            Some((Token::Name(name), rest)) => {
                self.tokens = rest;
                Ok(name.clone())
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    /// Reads that keyword if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.tokens.first(), Some(Token::Name(name)) if name == word)
    }

    /// Reads that sign if it is next.
    pub(super) fn sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.tokens.first(), Some(Token::Sign(found)) if *found == sign)
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Outcome<()> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(self.unexpected(sign))
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Outcome<()> {
        if self.word(word) {
            return Ok(());
        }
        Err(self.unexpected(word))
    }

    pub(super) fn expect_end(&self) -> Outcome<()> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        Err(self.unexpected("the end of the tag"))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.tokens.first() {
            None => "the end of the tag".to_owned(),
            Some(Token::Name(name)) => name.clone(),
            Some(Token::Text(_)) => "a string".to_owned(),
            Some(Token::Int(_) | Token::Float(_)) => "a number".to_owned(),
            Some(Token::Sign(sign)) => (*sign).to_owned(),
        };
        format!("expected {expected}, found {found}").into()
    }

    fn node(&mut self) -> Outcome<()> {
        self.tally.nodes += 1;
        if self.tally.nodes > MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} parts").into());
        }
        Ok(())
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.nesting >= MAX_NESTING {
            return Err(TOO_DEEP.into());
        }
        self.nesting += 1;
        let outcome = inner(self);
        self.nesting -= 1;
        outcome
    }

    pub(super) fn expression(&mut self) -> Outcome<Expression> {
        self.deeper(|parser| {
            let first = parser.either()?;
            if !parser.is_word("if") {
                return Ok(first);
            }
            let mut cases = Vec::new();
            let mut value = first;
            while parser.word("if") {
                cases.push((value, parser.either()?));
                if !parser.word("else") {
                    return Ok(Expression::Conditional(cases, None));
                }
                value = parser.either()?;
            }
            Ok(Expression::Conditional(cases, Some(Box::new(value))))
        })
    }

    /// An expression without a condition of its own.
    pub(super) fn either(&mut self) -> Outcome<Expression> {
        self.logic(true)
    }

    fn logic(&mut self, or: bool) -> Outcome<Expression> {
        let next = |parser: &mut Self| {
            if or {
                parser.logic(false)
            } else {
                parser.negation()
            }
        };
        let word = if or { "or" } else { "and" };
        let first = next(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.word(word) {
            operands.push(next(self)?);
        }
        Ok(Expression::Logic(or, operands))
    }

    fn negation(&mut self) -> Outcome<Expression> {
        let mut count = 0_usize;
        while self.word("not") {
            count += 1;
        }
        let inner = self.comparison()?;
        Ok(match count {
            0 => inner,
            // Two in a row leave the truth of it.
            count if count % 2 == 0 => Expression::Not(Box::new(Expression::Not(Box::new(inner)))),
            _ => Expression::Not(Box::new(inner)),
        })
    }

    fn comparison(&mut self) -> Outcome<Expression> {
        const SIGNS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            (">=", Comparison::GreaterOrEqual),
        ];
        let first = self.binary(0)?;
        let mut rest = Vec::new();
        loop {
            let found = SIGNS.iter().find(|(sign, _)| self.is_sign(sign));
            let comparison = if let Some((sign, comparison)) = found {
                self.sign(sign);
                *comparison
            } else if self.word("in") {
                Comparison::In
            } else if self.is_word("not")
                && matches!(self.tokens.get(1), Some(Token::Name(name)) if name == "in")
            {
                self.tokens = &self.tokens[2..];
                Comparison::NotIn
            } else {
                break;
            };
            rest.push((comparison, self.binary(0)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Compare(Box::new(first), rest))
    }

    fn binary(&mut self, level: usize) -> Outcome<Expression> {
        let Some(signs) = LEVELS.get(level) else {
            return self.unary(true);
        };
        let first = self.binary(level + 1)?;
        if signs.is_empty() {
            if !self.is_sign("~") {
                return Ok(first);
            }
            let mut operands = vec![first];
            while self.sign("~") {
                operands.push(self.binary(level + 1)?);
            }
            return Ok(Expression::Concat(operands));
        }
        let mut rest = Vec::new();
        while let Some((sign, operator)) = signs.iter().find(|(sign, _)| self.is_sign(sign)) {
            self.sign(sign);
            rest.push((*operator, self.binary(level + 1)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Chain(Box::new(first), rest))
    }

    fn unary(&mut self, with_filters: bool) -> Outcome<Expression> {
        self.node()?;
        let inner = if self.sign("-") {
            let inner = self.deeper(|parser| parser.unary(false))?;
            Expression::Negative(Box::new(inner))
        } else if self.sign("+") {
            let inner = self.deeper(|parser| parser.unary(false))?;
            Expression::Positive(Box::new(inner))
        } else {
            self.primary()?
        };
        self.suffixed(inner, with_filters)
    }

    fn primary(&mut self) -> Outcome<Expression> {
        let Some((token, rest)) = self.tokens.split_first() else {
            return Err(self.unexpected("an expression"));
        };
        let expression = match token {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Expression::Bool(true),
                "false" | "False" => Expression::Bool(false),
                "none" | "None" => Expression::None,
                _ => {
                    let rest = &mut self.tally.rest;
                    rest.varargs |= name == "varargs";
                    rest.kwargs |= name == "kwargs";
                    rest.caller |= name == "caller";
                    Expression::Name(name.clone())
                }
            },
            Token::Int(value) => Expression::Int(*value),
            Token::Float(value) => Expression::Float(*value),
            Token::Text(text) => {
                let mut text = text.clone();
                self.tokens = rest;
                while let Some((Token::Text(more), rest)) = self.tokens.split_first() {
                    text.push_str(more);
                    self.tokens = rest;
                }
                return Ok(Expression::Text(text));
            }
            Token::Sign("(") => {
                self.tokens = rest;
                return self.parenthesis();
            }
            Token::Sign("[") => {
                self.tokens = rest;
                return Ok(Expression::List(self.list("]")?));
            }
            Token::Sign("{") => {
                self.tokens = rest;
                return self.dict();
            }
            Token::Sign(_) => return Err(self.unexpected("an expression")),
        };
        self.tokens = rest;
        Ok(expression)
    }

    fn parenthesis(&mut self) -> Outcome<Expression> {
        if self.sign(")") {
            return Ok(Expression::Tuple(Vec::new()));
        }
        let first = self.expression()?;
        if self.sign(")") {
            return Ok(first);
        }
        self.expect_sign(",")?;
        let mut items = vec![first];
        items.extend(self.list(")")?);
        Ok(Expression::Tuple(items))
    }

    /// Expressions between commas, up to `end`.
    fn list(&mut self, end: &str) -> Outcome<Vec<Expression>> {
        let mut items = Vec::new();
        while !self.sign(end) {
            items.push(self.expression()?);
            if !self.is_sign(end) {
                self.expect_sign(",")?;
            }
        }
        Ok(items)
    }

    fn dict(&mut self) -> Outcome<Expression> {
        let mut members = Vec::new();
        while !self.sign("}") {
            let name = self.expression()?;
            self.expect_sign(":")?;
            members.push((name, self.expression()?));
            if !self.is_sign("}") {
                self.expect_sign(",")?;
            }
        }
        Ok(Expression::Dict(members))
    }

    fn suffixed(&mut self, inner: Expression, with_filters: bool) -> Outcome<Expression> {
        let mut suffixes = Vec::new();
        loop {
            let filtered = matches!(suffixes.last(), Some(Suffix::Filter(_) | Suffix::Test(..)));
            let suffix = if self.is_sign("(") {
                Suffix::Call(self.arguments()?)
            } else if !filtered && self.is_sign(".") {
                self.attribute()?
            } else if !filtered && self.is_sign("[") {
                self.subscript()?
            } else if with_filters && self.sign("|") {
                Suffix::Filter(self.filter()?)
            } else if with_filters && self.word("is") {
                self.test()?
            } else {
                break;
            };
            self.node()?;
            suffixes.push(suffix);
        }
        if suffixes.is_empty() {
            return Ok(inner);
        }
        Ok(Expression::Suffixed(Box::new(inner), suffixes))
    }

    fn attribute(&mut self) -> Outcome<Suffix> {
        self.expect_sign(".")?;
        if let Some((Token::Int(index), rest)) = self.tokens.split_first() {
            self.tokens = rest;
            return Ok(Suffix::Item(Expression::Int(*index)));
        }
        Ok(Suffix::Attribute(self.name()?))
    }

    fn subscript(&mut self) -> Outcome<Suffix> {
        self.expect_sign("[")?;
        let mut bounds = [None, None, None];
        let mut at = 0;
        while !self.sign("]") {
            if self.sign(":") {
                at += 1;
                if at > 2 {
                    return Err("a slice has at most three bounds".into());
                }
            } else if bounds[at].is_none() {
                bounds[at] = Some(self.expression()?);
            } else {
                return Err(self.unexpected("]"));
            }
        }
        let [first, ..] = &mut bounds;
        if at > 0 {
            return Ok(Suffix::Slice(bounds));
        }
        let index = first.take();
        index
            .map(Suffix::Item)
            .ok_or_else(|| "expected an index, found ]".into())
    }

    fn filter(&mut self) -> Outcome<Filter> {
        let mut name = self.name()?;
        while self.sign(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        let arguments = if self.is_sign("(") {
            self.arguments()?
        } else {
            Vec::new()
        };
        Ok(Filter { name, arguments })
    }

    /// Filters one after another, of a block.
    pub(super) fn filters(&mut self) -> Outcome<Vec<Filter>> {
        let mut filters = vec![self.filter()?];
        while self.sign("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn test(&mut self) -> Outcome<Suffix> {
        let negated = self.word("not");
        let mut test = self.filter()?;
        let begins = match self.tokens.first() {
            Some(Token::Name(name)) => {
                let ends = ["else", "or", "and", "if", "is", "not", "in", "recursive"];
                !ends.contains(&name.as_str())
            }
            Some(Token::Sign(sign)) => matches!(*sign, "[" | "{"),
            Some(_) => true,
            None => false,
        };
        if test.arguments.is_empty() && begins {
            let argument = self.deeper(|parser| {
                let inner = parser.primary()?;
                parser.suffixed(inner, false)
            })?;
            test.arguments.push(Argument::Positional(argument));
        }
        Ok(Suffix::Test(test, negated))
    }

    pub(super) fn arguments(&mut self) -> Outcome<Vec<Argument>> {
        self.deeper(|parser| {
            parser.expect_sign("(")?;
            let mut arguments = Vec::new();
            while !parser.sign(")") {
                let argument = match parser.tokens {
                    [Token::Sign("**"), rest @ ..] => {
                        parser.tokens = rest;
                        Argument::Dict(parser.expression()?)
                    }
                    [Token::Sign("*"), rest @ ..] => {
                        parser.tokens = rest;
                        Argument::List(parser.expression()?)
                    }
                    [Token::Name(name), Token::Sign("="), rest @ ..] => {
                        parser.tokens = rest;
                        Argument::Named(name.clone(), parser.expression()?)
                    }
                    _ => Argument::Positional(parser.expression()?),
                };
                arguments.push(argument);
                if !parser.is_sign(")") {
                    parser.expect_sign(",")?;
                }
            }
            Ok(arguments)
        })
    }

    /// An expression, or several between commas, which are a tuple.
    pub(super) fn tuple(&mut self, with_condition: bool) -> Outcome<Expression> {
        let one = |parser: &mut Self| {
            if with_condition {
                parser.expression()
            } else {
                parser.deeper(Self::either)
            }
        };
        let first = one(self)?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.sign(",") {
            if self.is_at_end() {
                break;
            }
            items.push(one(self)?);
        }
        Ok(Expression::Tuple(items))
    }

    /// What is assigned to: a name, a member of a namespace, or several of these.
    pub(super) fn target(&mut self) -> Outcome<Target> {
        let first = self.single_target()?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.sign(",") {
            if self.is_word("in") || self.is_sign("=") {
                break;
            }
            targets.push(self.single_target()?);
        }
        Ok(Target::Several(targets))
    }

    fn single_target(&mut self) -> Outcome<Target> {
        if self.sign("(") {
            let target = self.deeper(Self::target)?;
            self.expect_sign(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if self.sign(".") {
            return Ok(Target::Member(name, self.name()?));
        }
        Ok(Target::Name(name.into()))
    }
}

pub(super) const TOO_DEEP: &str =
    "it nests expressions or blocks deeper than a chat template may (40 levels)";
