//! The forms of a report: a table for the terminal, Markdown and JSON to keep, and one HTML page for all the reports
//! of a folder.

use super::svg::{self, Theme, escape};
use super::{Report, Table, Target, Verdict};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

/// The reports that a folder may hold, in the order of its page.
const NAMES: [&str; 5] = ["validate", "peers", "activations", "profile", "kernels"];

impl Report {
    /// Figures, then targets (what is asked for, what was measured, whether that is enough), in columns, each note below its row.
    pub fn terminal(&self) -> String {
        let mut out = String::new();
        for table in &self.tables {
            line(&mut out, &table.title);
            if !table.note.is_empty() {
                line(&mut out, &table.note);
            }
            let rows = std::iter::once(&table.head).chain(&table.rows);
            let cells: Vec<Vec<&str>> = rows
                .map(|row| row.iter().map(String::as_str).collect())
                .collect();
            columns(&mut out, &cells, &[], true);
            out.push('\n');
        }
        if !self.targets.is_empty() {
            let cells: Vec<Vec<&str>> = std::iter::once(["", "target", "measured", "met"])
                .chain(self.targets.iter().map(cells))
                .map(Vec::from)
                .collect();
            let notes = std::iter::once("").chain(self.targets.iter().map(|t| t.note.as_str()));
            columns(&mut out, &cells, &notes.collect::<Vec<_>>(), false);
        }
        for note in &self.notes {
            line(&mut out, note);
        }
        if !self.targets.is_empty() {
            let met = format!("{} of {} met", self.met(), self.targets.len());
            line(&mut out, &met);
        }
        out
    }

    /// Writes the report to `folder` as `name.json`, `name.md` and its charts, and makes the folder's `index.html`
    /// anew from all the reports it holds.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let save = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let json = serde_json::to_string_pretty(self)?;
        save(&format!("{}.json", self.name), &format!("{json}\n"))?;
        save(&format!("{}.md", self.name), &self.markdown())?;
        for chart in &self.charts {
            for (name, theme) in [
                (format!("{}-light.svg", chart.name), Theme::Light),
                (format!("{}-dark.svg", chart.name), Theme::Dark),
            ] {
                save(&name, &svg::svg(chart, theme))?;
            }
        }
        // What other programs left is shown where it can be read; a file of another form is theirs to mend.
        let reports: Vec<Report> = NAMES
            .iter()
            .filter_map(|name| std::fs::read(folder.join(format!("{name}.json"))).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect();
        save("index.html", &html(&reports))
    }

    fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", self.title);
        line(
            &mut out,
            &format!(
                "Written by `{}` on {}.",
                self.command,
                self.machine.join(", ")
            ),
        );
        out.push('\n');
        if !self.targets.is_empty() {
            out.push_str(
                "| what | target | measured | met | note |\n| --- | --- | --- | --- | --- |\n",
            );
            for target in &self.targets {
                let cells = cells(target).into_iter().chain([target.note.as_str()]);
                markdown_row(&mut out, cells);
            }
            out.push('\n');
        }
        for note in &self.notes {
            line(&mut out, &format!("- {note}"));
        }
        for table in &self.tables {
            out.push_str(&format!("\n## {}\n\n", table.title));
            if !table.note.is_empty() {
                line(&mut out, &table.note);
                out.push('\n');
            }
            markdown_row(&mut out, table.head.iter().map(String::as_str));
            let rule = (0..table.head.len()).map(|column| if column == 0 { "---" } else { "---:" });
            markdown_row(&mut out, rule);
            for row in &table.rows {
                markdown_row(&mut out, row.iter().map(String::as_str));
            }
        }
        for chart in &self.charts {
            let (name, title) = (&chart.name, escape(&chart.title));
            out.push_str(&format!(
                "\n<picture><source media=\"(prefers-color-scheme: dark)\" srcset=\"{name}-dark.svg\">\
                 <img alt=\"{title}\" src=\"{name}-light.svg\"></picture>\n"
            ));
        }
        out
    }

    fn section(&self) -> String {
        let mut rows = String::new();
        for target in &self.targets {
            let class = match target.met {
                Verdict::Met => "met",
                Verdict::Roofline => "open",
                Verdict::Unmet => "unmet",
                Verdict::Unmeasured => "open",
            };
            let [what, asked, measured, met] = cells(target).map(escape);
            let note = escape(&target.note);
            put(
                &mut rows,
                format_args!(
                    "<tr class=\"{class}\"><th scope=\"row\">{what}<small>{note}</small></th><td>{asked}</td>\
                     <td>{measured}</td><td><span>{met}</span></td></tr>\n"
                ),
            );
        }
        let mut out = format!(
            "<section id=\"{name}\"><h2>{}</h2>\n<p class=\"lead\">",
            escape(&self.title),
            name = self.name
        );
        if !self.targets.is_empty() {
            let (met, all) = (self.met(), self.targets.len());
            put(
                &mut out,
                format_args!("<b>{met} of {all}</b> targets met. "),
            );
        }
        put(
            &mut out,
            format_args!("On {}.</p>\n", escape(&self.machine.join(", "))),
        );
        if !rows.is_empty() {
            put(
                &mut out,
                format_args!(
                    "<table><thead><tr><th>what</th><th>target</th><th>measured</th><th>met</th></tr></thead>\n\
                     <tbody>{rows}</tbody></table>\n"
                ),
            );
        }
        for table in &self.tables {
            html_table(&mut out, table);
        }
        out.push_str("<ul>");
        for note in &self.notes {
            put(&mut out, format_args!("<li>{}</li>\n", escape(note)));
        }
        put(
            &mut out,
            format_args!(
                "</ul>\n<p>Written by <code>{}</code>; the numbers are in <a href=\"{name}.json\">{name}.json</a>.</p>\n\
                 <div class=\"charts\">",
                escape(&self.command),
                name = self.name
            ),
        );
        for chart in &self.charts {
            let drawn = svg::svg(chart, Theme::Both);
            put(&mut out, format_args!("<figure>{drawn}</figure>\n"));
        }
        out.push_str("</div></section>\n");
        out
    }
}

fn cells(target: &Target) -> [&str; 4] {
    [
        &target.what,
        &target.target,
        &target.measured,
        target.met.word(),
    ]
}

/// Rows in columns as wide as their widest cell, all but the first to the right if they are `numbers`; below each row
/// its note, if it has one.
fn columns(out: &mut String, rows: &[Vec<&str>], notes: &[&str], numbers: bool) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let mut text = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                text.push_str("  ");
            }
            if numbers && column > 0 {
                put(&mut text, format_args!("{cell:>width$}"));
            } else {
                put(&mut text, format_args!("{cell:<width$}"));
            }
        }
        line(out, &text);
        if let Some(note) = notes.get(index).filter(|note| !note.is_empty()) {
            line(out, &format!("    {note}"));
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// Appends; writing to a string cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).ok();
}

fn markdown_row<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>) {
    let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    line(out, &format!("| {} |", cells.join(" | ")));
}

fn html_table(out: &mut String, table: &Table) {
    put(
        out,
        format_args!(
            "<h3>{}</h3><p>{}</p>\n<table class=\"figures\"><thead><tr>",
            escape(&table.title),
            escape(&table.note)
        ),
    );
    for name in &table.head {
        put(out, format_args!("<th>{}</th>", escape(name)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for cell in row {
            put(out, format_args!("<td>{}</td>", escape(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

fn html(reports: &[Report]) -> String {
    let mut links = String::new();
    let mut sections = String::new();
    for report in reports {
        put(
            &mut links,
            format_args!(
                "<li><a href=\"#{name}\">{}</a> (<a href=\"{name}.md\">{name}.md</a>)</li>\n",
                escape(&report.title),
                name = report.name
            ),
        );
        sections.push_str(&report.section());
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>BitNet-Rust: measurements</title>\n<style>{STYLE}</style></head>\n<body><main>\n\
         <h1>BitNet-Rust: measurements</h1>\n\
         <ul>{links}</ul>\n\
         <p>Times are medians; ratios are medians of the ratios of neighbouring turns, all contenders taking turns in \
         one run.</p>\n{sections}</main></body></html>\n",
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#0f172a;--dim:#475569;--line:#e2e8f0;--met:#047857;--unmet:#b91c1c}\
@media (prefers-color-scheme:dark){:root{--paper:#0f172a;--ink:#f1f5f9;--dim:#94a3b8;--line:#334155;--met:#34d399;--unmet:#f87171}}\
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:1000px;margin:0 auto;padding:2rem 1rem}a{color:inherit}\
h1{font-size:1.7rem;margin:0}h2{margin:2.5rem 0 0}h3{margin:1.5rem 0 0}.lead,ul,p{color:var(--dim)}.lead b{color:var(--ink)}\
table{width:100%;border-collapse:collapse;margin:1.5rem 0}\
th,td{text-align:left;vertical-align:top;padding:.5rem .6rem;border-bottom:1px solid var(--line);font-weight:400}\
.figures{margin:.5rem 0;font-variant-numeric:tabular-nums}.figures th:not(:first-child),.figures td:not(:first-child){text-align:right}\
thead th{color:var(--dim);font-size:.85rem}small{display:block;color:var(--dim)}\
td span{font-weight:600}.met span{color:var(--met)}.unmet span{color:var(--unmet)}.open span{color:var(--dim)}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:1rem}\
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}figure svg{display:block;width:100%}";

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str) -> Report {
        let mut report = Report::new(name, "What | and <why>", "cargo xtask x".into());
        report.target("a", "≥ 2×", "3×", Verdict::Met, "");
        report.target("b|c", "≥ 2×", "1×", Verdict::Unmet, "roofline");
        let mut table = Table::new("Figures", "", &["file", "tokens/s"]);
        table.row(["m", "12.3"]);
        report.tables.push(table);
        let mut chart = super::super::Chart::new("drawn", "Drawn", "s");
        chart.bar("x", "y", 1.0);
        report.charts.push(chart);
        report
    }

    #[test]
    fn every_form_holds_targets_and_figures() {
        let report = report("peers");
        let text = report.terminal();
        assert!(
            text.contains("1 of 2 met") && text.contains("    roofline"),
            "{text}"
        );
        assert!(text.contains("file  tokens/s\nm         12.3\n"), "{text}");
        let text = report.markdown();
        assert!(text.contains(".\n\n| what | target |"), "{text}");
        assert!(
            text.contains("| b\\|c | ≥ 2× | 1× | no | roofline |"),
            "{text}"
        );
        assert!(
            text.contains("| --- | ---: |\n| m | 12.3 |") && text.contains("drawn-dark.svg"),
            "{text}"
        );
    }

    #[test]
    fn the_page_shows_all_reports_of_its_folder() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("bitnet-report-{}", std::process::id()));
        report("profile").write(&folder)?;
        report("validate").write(&folder)?;
        std::fs::write(folder.join("peers.json"), "{\"of\": \"another time\"}")?;
        report("validate").write(&folder)?;
        let page = std::fs::read_to_string(folder.join("index.html"))?;
        let drawn = folder.join("drawn-light.svg").is_file();
        std::fs::remove_dir_all(&folder)?;
        assert!(drawn);
        let (first, second) = (page.find("id=\"validate\""), page.find("id=\"profile\""));
        assert!(first.is_some() && first < second && !page.contains("id=\"peers\""));
        assert!(page.contains("What | and &lt;why&gt;"));
        Ok(())
    }
}
