//! The imports, functions and child modules of one file.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, Path, TraitItemFn, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A function, and its number of lines.
pub struct Function {
    pub name: String,
    pub lines: usize,
}

/// What a file says, without its tests.
#[derive(Default)]
pub struct File {
    /// Child modules with files of their own.
    pub modules: Vec<String>,
    pub functions: Vec<Function>,
    pub uses: BTreeSet<Vec<String>>,
    pub imported: BTreeMap<String, Vec<String>>,
    path: Vec<String>,
}

impl File {
    /// Parses the file of the module `path`.
    pub fn parse(text: &str, path: &[String]) -> syn::Result<Self> {
        let parsed = syn::parse_file(text)?;
        let modules = parsed.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && !is_test(&module.attrs) => {
                Some(module.ident.to_string())
            }
            _ => None,
        });
        let mut file = Self { modules: modules.collect(), path: path.to_vec(), ..Self::default() };
        file.visit_file(&parsed);
        Ok(file)
    }

    /// Returns a path from the root of the crate, if it leads to a module of the crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (mut base, mut rest) = (self.path.clone(), path);
        match rest.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            first if self.modules.iter().any(|module| module == first) => {}
            _ => return None,
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let joined = |name: &syn::Ident| prefix.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &joined(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, prefix)),
            UseTree::Glob(_) => self.uses.extend(self.absolute(prefix)),
            UseTree::Name(name) if name.ident == "self" => {
                self.add(prefix.last().cloned().unwrap_or_default(), prefix);
            }
            UseTree::Name(name) => self.add(name.ident.to_string(), &joined(&name.ident)),
            UseTree::Rename(renamed) if renamed.ident == "self" => {
                self.add(renamed.rename.to_string(), prefix)
            }
            UseTree::Rename(renamed) => self.add(renamed.rename.to_string(), &joined(&renamed.ident)),
        }
    }

    fn add(&mut self, name: String, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.imported.insert(name, path.clone());
            self.uses.insert(path);
        }
    }

    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        self.functions.push(Function { name: name.to_string(), lines });
    }
}

impl<'ast> Visit<'ast> for File {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, item.sig.span().join(item.block.span()).unwrap_or(item.span()));
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, item.sig.span().join(item.block.span()).unwrap_or(item.span()));
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.function(&item.sig.ident, item.span());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.uses.extend(self.absolute(&segments));
        }
        visit::visit_path(self, path);
    }
}

/// Whether an item exists in tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<String> {
        let path = ["a".to_owned(), "b".to_owned()];
        File::parse(text, &path).unwrap().uses.iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn imports_and_qualified_paths_are_found_and_tests_are_not() {
        assert_eq!(uses("use crate::{x::{Y, self as z}, w};"), ["w", "x", "x::Y"]);
        assert_eq!(uses("use super::c::D; use self::e::F; use std::io;"), ["a::b::e::F", "a::c::D"]);
        assert_eq!(uses("mod child; use child::Thing;"), ["a::b::child::Thing"]);
        assert_eq!(uses("fn f() -> super::c::T { crate::x::y() }"), ["a::c::T", "x::y"]);
        assert_eq!(uses("impl super::super::T for U<crate::V> {}"), ["T", "V"]);
        assert!(
            uses("#[cfg(test)] mod tests { use super::super::x::Y; } #[cfg(test)] use crate::x;").is_empty()
        );
    }

    #[test]
    fn a_function_has_the_lines_from_its_name_to_its_brace() {
        let file = File::parse("/// A.\nfn f() {\n    g();\n}\n", &[]).unwrap();
        assert_eq!(file.functions[0].lines, 3);
    }
}
