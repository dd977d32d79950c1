//! What can be seen of a template before it is rendered.
//!
//! Whether it wants a message's content as a string or as a list of parts: vLLM 0.32 looks whether it loops over contents
//! (`renderers/hf.py`, `_detect_content_format`), and this is the same look at the same tree.

use std::collections::{HashSet, VecDeque};

use minijinja::machinery::{ast, parse};
use minijinja::syntax::SyntaxConfig;

use super::source::LOOPED;

/// How contents are given to a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ContentFormat {
    /// As strings; several parts are joined by newlines.
    String,
    /// As lists of parts, also where the request has a string.
    Parts,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inspection {
    /// The format it wants. What cannot be looked into wants strings.
    pub(super) content_format: ContentFormat,
    /// Whether it adds text to text that it marked as safe. Python then escapes what is added; this is not reproduced.
    pub(super) adds_to_safe: bool,
}

/// Looks into a prepared source.
pub(super) fn inspect(source: &str) -> Inspection {
    let mut nodes = Nodes::default();
    let mut seen = Inspection { content_format: ContentFormat::String, adds_to_safe: false };
    if let Ok(root) = parse(source, "chat_template", SyntaxConfig::default()) {
        nodes.statement(&root, None);
        if nodes.loops_over_content() == Some(true) {
            seen.content_format = ContentFormat::Parts;
        }
        seen.adds_to_safe = nodes.adds_to_safe;
    }
    seen
}

/// What of a tree is looked at.
#[derive(Default)]
struct Nodes<'a> {
    assignments: Vec<&'a ast::Set<'a>>,
    loops: Vec<Loop<'a>>,
    macros: Vec<&'a ast::Macro<'a>>,
    calls: Vec<&'a ast::Call<'a>>,
    adds_to_safe: bool,
}

#[derive(Clone, Copy)]
struct Loop<'a> {
    over: &'a ast::Expr<'a>,
    target: &'a ast::Expr<'a>,
    /// The outermost macro around it.
    within: Option<usize>,
}

impl<'a> Nodes<'a> {
    /// `None` where vLLM stumbles over a target that is not a name, and gives up.
    fn loops_over_content(&self) -> Option<bool> {
        let mut conversations = vec!["messages"];
        let mut known = HashSet::from(["messages"]);
        let mut queue = VecDeque::from(["messages"]);
        while let Some(variable) = queue.pop_front() {
            for set in self.assignments.iter().filter(|set| is_elements(&set.expr, variable, None)) {
                let name = name(&set.target)?;
                conversations.push(name);
                if known.insert(name) {
                    queue.push_back(name);
                }
            }
        }
        let mut messages = Vec::new();
        for each in &self.loops {
            if conversations.iter().any(|variable| is_elements(each.over, variable, None)) {
                messages.push(name(each.target)?);
            }
        }
        let is_content = |expr: &ast::Expr<'_>| {
            messages.iter().any(|variable| is_elements(expr, variable, Some("content")))
        };
        let parameters: Vec<HashSet<&str>> =
            self.macros.iter().map(|m| self.content_parameters(m, &is_content)).collect();
        for each in &self.loops {
            let over = name(each.over);
            let by_parameter =
                each.within.is_some_and(|m| over.is_some_and(|over| parameters[m].contains(over)));
            if is_content(each.over) || by_parameter || (each.within.is_none() && over == Some("content")) {
                return name(each.target).map(|_| true);
            }
        }
        Some(false)
    }

    /// The parameters of a macro that are somewhere given a message's content.
    fn content_parameters(
        &self,
        of: &'a ast::Macro<'a>,
        is_content: &impl Fn(&ast::Expr<'_>) -> bool,
    ) -> HashSet<&'a str> {
        let names: Vec<&str> = of.args.iter().filter_map(name).collect();
        let mut found = HashSet::new();
        for call in self.calls.iter().filter(|call| name(&call.expr) == Some(of.name)) {
            let mut position = 0;
            for argument in &call.args {
                match argument {
                    ast::CallArg::Pos(expr) => {
                        if let Some(name) = names.get(position).filter(|_| is_content(expr)) {
                            found.insert(*name);
                        }
                        position += 1;
                    }
                    ast::CallArg::Kwarg(key, expr) if names.contains(key) && is_content(expr) => {
                        found.insert(*key);
                    }
                    _ => {}
                }
            }
        }
        found
    }

    fn statements(&mut self, statements: &'a [ast::Stmt<'a>], within: Option<usize>) {
        statements.iter().for_each(|statement| self.statement(statement, within));
    }

    fn statement(&mut self, statement: &'a ast::Stmt<'a>, within: Option<usize>) {
        match statement {
            ast::Stmt::Template(node) => self.statements(&node.children, within),
            ast::Stmt::EmitExpr(node) => self.expression(&node.expr),
            ast::Stmt::ForLoop(node) => {
                let over = match &node.iter {
                    ast::Expr::Filter(filter) if filter.name == LOOPED => {
                        filter.expr.as_ref().unwrap_or(&node.iter)
                    }
                    iter => iter,
                };
                self.loops.push(Loop { over, target: &node.target, within });
                self.expression(over);
                node.filter_expr.iter().for_each(|expr| self.expression(expr));
                self.statements(&node.body, within);
                self.statements(&node.else_body, within);
            }
            ast::Stmt::IfCond(node) => {
                self.expression(&node.expr);
                self.statements(&node.true_body, within);
                self.statements(&node.false_body, within);
            }
            ast::Stmt::WithBlock(node) => {
                node.assignments.iter().for_each(|(_, expr)| self.expression(expr));
                self.statements(&node.body, within);
            }
            ast::Stmt::Set(node) => {
                self.assignments.push(node);
                self.expression(&node.expr);
            }
            ast::Stmt::SetBlock(node) => {
                node.filter.iter().for_each(|expr| self.expression(expr));
                self.statements(&node.body, within);
            }
            ast::Stmt::AutoEscape(node) => self.statements(&node.body, within),
            ast::Stmt::FilterBlock(node) => {
                self.expression(&node.filter);
                self.statements(&node.body, within);
            }
            ast::Stmt::Block(node) => self.statements(&node.body, within),
            ast::Stmt::Macro(node) => self.declaration(node, within),
            ast::Stmt::CallBlock(node) => {
                self.call(&node.call);
                // Jinja2 has the body of a call block in a node of its own kind, not in a macro.
                self.statements(&node.macro_decl.body, within);
            }
            ast::Stmt::Do(node) => self.call(&node.call),
            _ => {}
        }
    }

    fn declaration(&mut self, node: &'a ast::Macro<'a>, within: Option<usize>) {
        let index = self.macros.len();
        self.macros.push(node);
        node.defaults.iter().for_each(|expr| self.expression(expr));
        self.statements(&node.body, within.or(Some(index)));
    }

    fn call(&mut self, call: &'a ast::Call<'a>) {
        self.calls.push(call);
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &'a [ast::CallArg<'a>]) {
        for argument in arguments {
            let (ast::CallArg::Pos(expr)
            | ast::CallArg::Kwarg(_, expr)
            | ast::CallArg::PosSplat(expr)
            | ast::CallArg::KwargSplat(expr)) = argument;
            self.expression(expr);
        }
    }

    fn expression(&mut self, expression: &'a ast::Expr<'a>) {
        match expression {
            ast::Expr::Var(_) | ast::Expr::Const(_) => {}
            ast::Expr::Slice(node) => {
                self.expression(&node.expr);
                [&node.start, &node.stop, &node.step]
                    .into_iter()
                    .flatten()
                    .for_each(|expr| self.expression(expr));
            }
            ast::Expr::UnaryOp(node) => self.expression(&node.expr),
            ast::Expr::BinOp(node) => {
                self.adds_to_safe |= matches!(node.op, ast::BinOpKind::Add)
                    && (is_marked_safe(&node.left) || is_marked_safe(&node.right));
                self.expression(&node.left);
                self.expression(&node.right);
            }
            ast::Expr::Compare(node) => {
                self.expression(&node.expr);
                node.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            ast::Expr::IfExpr(node) => {
                self.expression(&node.test_expr);
                self.expression(&node.true_expr);
                node.false_expr.iter().for_each(|expr| self.expression(expr));
            }
            ast::Expr::Filter(node) => {
                node.expr.iter().for_each(|expr| self.expression(expr));
                self.arguments(&node.args);
            }
            ast::Expr::Test(node) => {
                self.expression(&node.expr);
                self.arguments(&node.args);
            }
            ast::Expr::GetAttr(node) => self.expression(&node.expr),
            ast::Expr::GetItem(node) => {
                self.expression(&node.expr);
                self.expression(&node.subscript_expr);
            }
            ast::Expr::Call(node) => self.call(node),
            ast::Expr::List(node) => node.items.iter().for_each(|expr| self.expression(expr)),
            ast::Expr::Tuple(node) => node.items.iter().for_each(|expr| self.expression(expr)),
            ast::Expr::Map(node) => {
                node.keys.iter().chain(&node.values).for_each(|expr| self.expression(expr));
            }
        }
    }
}

fn is_marked_safe(expression: &ast::Expr<'_>) -> bool {
    matches!(expression, ast::Expr::Filter(filter) if matches!(filter.name, "safe" | "e" | "escape" | "forceescape"))
}

fn name<'a>(expression: &ast::Expr<'a>) -> Option<&'a str> {
    match expression {
        ast::Expr::Var(variable) => Some(variable.id),
        _ => None,
    }
}

/// Whether an expression is the variable (or its item `key`), filtered, tested or sliced.
fn is_elements(expression: &ast::Expr<'_>, variable: &str, key: Option<&str>) -> bool {
    match expression {
        ast::Expr::Filter(node) => node.expr.as_ref().is_some_and(|expr| is_elements(expr, variable, key)),
        ast::Expr::Test(node) => is_elements(&node.expr, variable, key),
        ast::Expr::Slice(node) => is_elements(&node.expr, variable, key),
        _ => match key {
            None => name(expression) == Some(variable),
            Some(key) => is_item(expression, variable, key),
        },
    }
}

fn is_item(expression: &ast::Expr<'_>, variable: &str, key: &str) -> bool {
    match expression {
        ast::Expr::GetAttr(node) => node.name == key && name(&node.expr) == Some(variable),
        ast::Expr::GetItem(node) => {
            let subscript = node.subscript_expr.as_const();
            name(&node.expr) == Some(variable)
                && subscript.as_ref().and_then(|value| value.as_str()) == Some(key)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::prepared;
    use super::*;

    fn format(source: &str) -> ContentFormat {
        inspect(&prepared(source).unwrap()).content_format
    }

    #[test]
    fn templates_that_loop_over_contents_want_parts() {
        for source in [
            "{% for message in messages %}{% for part in message.content %}{% endfor %}{% endfor %}",
            "{% for m in messages[1:] %}{% for part in m['content'] | list %}{% endfor %}{% endfor %}",
            "{% set loop_messages = messages %}{% set rest = loop_messages[1:] %}{% for m in rest %}{% for p in m.content if p %}{% endfor %}{% endfor %}",
            "{% for content in content %}{% endfor %}",
            "{% macro show(c) %}{% for p in c %}{% endfor %}{% endmacro %}{% for m in messages %}{{ show(m.content) }}{% endfor %}",
            "{% macro show(a, c) %}{% for p in c %}{% endfor %}{% endmacro %}{% for m in messages %}{{ show(1, c=m['content']) }}{% endfor %}",
        ] {
            assert_eq!(format(source), ContentFormat::Parts, "{source}");
        }
    }

    #[test]
    fn other_templates_want_strings() {
        for source in [
            "{% for message in messages %}{{ message.content }}{% endfor %}",
            "{% for message in messages %}{% for call in message.tool_calls %}{% endfor %}{% endfor %}",
            "{% for message in others %}{% for part in message.content %}{% endfor %}{% endfor %}",
            "{% macro show(content) %}{% for p in content %}{% endfor %}{% endmacro %}{{ show(x) }}",
            // vLLM gives up where a target is not a name.
            "{% set ns.m = messages %}{% for message in messages %}{% for part in message.content %}{% endfor %}{% endfor %}",
            "{% for a, b in messages %}{% for part in a.content %}{% endfor %}{% endfor %}",
        ] {
            assert_eq!(format(source), ContentFormat::String, "{source}");
        }
    }

    #[test]
    fn adding_to_safe_text_is_seen() {
        for (source, adds) in [
            ("{{ 'a'|safe + b }}", true),
            ("{{ a + (b|e) }}", true),
            ("{{ a|tojson|safe }}", false),
            ("{{ a ~ (b|safe) ~ c }}", false),
        ] {
            assert_eq!(inspect(source).adds_to_safe, adds, "{source}");
        }
    }
}
