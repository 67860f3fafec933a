//! A compiled template.
//!
//! Chains (`a + b + c`, `a.b.c`, `elif`) are lists and not trees, so that only what the source nests is nested.

use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) body: Vec<Statement>,
    /// Macros and bodies of call blocks; values name them by their place.
    pub(super) macros: Vec<MacroSource>,
    /// Loops; recursive ones are called by their place.
    pub(super) loops: Vec<LoopSource>,
}

#[derive(Debug)]
pub(super) enum Statement {
    Text(String),
    Output(Expression),
    Loop(usize),
    If(Vec<(Option<Expression>, Vec<Statement>)>),
    Set(Target, Expression),
    SetBlock(Target, Vec<Filter>, Vec<Statement>),
    Macro(String, usize),
    /// What is called, and the macro that is its `caller`.
    Call(Expression, usize),
    FilterBlock(Vec<Filter>, Vec<Statement>),
    With(Vec<(Target, Expression)>, Vec<Statement>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct LoopSource {
    pub(super) target: Target,
    pub(super) items: Expression,
    pub(super) condition: Option<Expression>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Statement>,
    pub(super) otherwise: Vec<Statement>,
}

#[derive(Debug)]
pub(super) struct MacroSource {
    pub(super) name: String,
    pub(super) parameters: Vec<(Arc<str>, Option<Expression>)>,
    /// Which names of what no parameter takes the body reads: without them there may be nothing to read.
    pub(super) reads: Rest,
    pub(super) body: Vec<Statement>,
}

/// Names that a macro has without a parameter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rest {
    pub(super) varargs: bool,
    pub(super) kwargs: bool,
    pub(super) caller: bool,
}

/// The target of an assignment.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    Several(Vec<Target>),
    /// A member of a namespace.
    Member(String, String),
}

#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) arguments: Vec<Argument>,
}

#[derive(Debug)]
pub(super) enum Argument {
    Positional(Expression),
    Named(String, Expression),
    /// `*list`.
    List(Expression),
    /// `**dictionary`.
    Dict(Expression),
}

#[derive(Debug)]
pub(super) enum Expression {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Name(String),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    /// The first that applies of values and their conditions, and what there is else.
    Conditional(Vec<(Expression, Expression)>, Option<Box<Expression>>),
    /// `or` (true) and `and`.
    Logic(bool, Vec<Expression>),
    Not(Box<Expression>),
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    Concat(Vec<Expression>),
    Chain(Box<Expression>, Vec<(Operator, Expression)>),
    Negative(Box<Expression>),
    Positive(Box<Expression>),
    Suffixed(Box<Expression>, Vec<Suffix>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Debug)]
pub(super) enum Suffix {
    Attribute(String),
    Item(Expression),
    Slice([Option<Expression>; 3]),
    Call(Vec<Argument>),
    Filter(Filter),
    /// A test, and whether it must fail.
    Test(Filter, bool),
}
