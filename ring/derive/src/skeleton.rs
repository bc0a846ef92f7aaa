//! `skeleton_records!`: finds the structs that libbpf-cargo generated, in its file.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Token, braced};

/// `"switches.skel.rs": skel::types::{switch_event, pair}`.
pub(crate) struct Wanted {
    file: LitStr,
    module: TokenStream,
    names: Punctuated<Ident, Token![,]>,
}

impl Parse for Wanted {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let file = input.parse()?;
        input.parse::<Token![:]>()?;
        let mut module = TokenStream::new();
        while !input.peek(syn::token::Brace) {
            let segment = Ident::parse_any(input)?;
            let colons = input.parse::<Token![::]>()?;
            module.extend(quote!(#segment #colons));
        }
        let names;
        braced!(names in input);
        Ok(Self { file, module, names: names.parse_terminated(Ident::parse_any, Token![,])? })
    }
}

impl Wanted {
    /// The path of the file: where build scripts put it, or next to `Cargo.toml`.
    fn path(&self) -> Result<PathBuf, Error> {
        let folders = ["OUT_DIR", "CARGO_MANIFEST_DIR"].map(std::env::var_os);
        let mut paths = folders.iter().flatten().map(|folder| Path::new(folder).join(self.file.value()));
        paths.find(|path| path.exists()).ok_or_else(|| {
            Error::new(
                self.file.span(),
                "no such file in OUT_DIR (a build script makes it) or beside Cargo.toml",
            )
        })
    }

    pub(crate) fn expand(&self) -> Result<TokenStream, Error> {
        let path = self.path()?;
        let wrong = |why| Error::new(self.file.span(), format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
        let source: TokenStream = text.parse().map_err(|_| wrong("not a Rust file".to_owned()))?;
        let records = self.names.iter().map(|name| {
            let found = find(source.clone(), name);
            let found = found.ok_or_else(|| Error::new(name.span(), "no such struct in the skeleton"))?;
            self.record(name, &found)
        });
        let records = records.collect::<Result<TokenStream, Error>>()?;
        // Makes rustc expand the macro again when the skeleton changes.
        let path = LitStr::new(&path.to_string_lossy(), Span::call_site());
        Ok(quote! {
            const _: &[u8] = ::core::include_bytes!(#path);
            #records
        })
    }

    fn record(&self, name: &Ident, found: &DeriveInput) -> Result<TokenStream, Error> {
        let module = &self.module;
        match &found.data {
            Data::Struct(data) => match &data.fields {
                Fields::Named(fields) => {
                    let fields = fields.named.iter().map(|field| &field.ident);
                    Ok(quote!(::mapring::plain_record!(#module #name { #(#fields),* });))
                }
                _ => Ok(quote!(::mapring::plain_record!(#module #name);)),
            },
            _ => Err(Error::new(name.span(), "not a struct, and not every bit pattern may be one of it")),
        }
    }
}

/// The type with this name, in the file or one of its modules.
fn find(source: TokenStream, name: &Ident) -> Option<DeriveInput> {
    let mut item = Vec::new();
    for token in source {
        item.push(token.clone());
        let module = match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
            TokenTree::Punct(punct) if punct.as_char() == ';' => None,
            _ => continue,
        };
        let ended: Vec<_> = std::mem::take(&mut item);
        let has = |word: &str| ended.iter().any(|token| matches!(token, TokenTree::Ident(i) if i == word));
        let found = match module {
            Some(module) if has("mod") => find(module, name),
            _ if has(&name.to_string()) => syn::parse2(ended.into_iter().collect()).ok(),
            _ => None,
        };
        if let Some(found) = found.filter(|found: &DeriveInput| found.ident == *name) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        pub use self::imp::*;
        mod imp {
            fn pair() -> u8 { 1 }
            pub mod types {
                #[derive(Copy, Clone)] #[repr(C)] pub struct mapring_ring__ring { pub record: pair }
                #[repr(transparent)] pub struct mode(pub u32);
                impl mode { pub const ON: mode = mode(1); }
                pub union either { pub a: u32 }
                #[repr(C)] pub struct pair { pub r#type: u32, pub __pad_4: [u8; 4] }
            }
        }";

    fn record(name: &str) -> Result<String, String> {
        let wanted: Wanted =
            syn::parse_str(&format!("\"a.skel.rs\": crate::skel::types::{{{name}}}")).unwrap();
        let name = wanted.names.first().unwrap();
        let found = find(FILE.parse().unwrap(), name).ok_or("not found")?;
        wanted.record(name, &found).map(|tokens| tokens.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn structs_are_found_with_their_fields() {
        let pair = record("pair").unwrap().replace(' ', "");
        assert_eq!(pair, "::mapring::plain_record!(crate::skel::types::pair{r#type,__pad_4});");
        assert_eq!(
            record("mode").unwrap().replace(' ', ""),
            "::mapring::plain_record!(crate::skel::types::mode);"
        );
        assert_eq!(record("missing").unwrap_err(), "not found");
        assert!(record("either").unwrap_err().contains("not a struct"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let wanted: Wanted = syn::parse_str("\"a.skel.rs\": types::{pair}").unwrap();
        assert!(wanted.expand().unwrap_err().to_string().contains("no such file in OUT_DIR"));
        assert!(syn::parse_str::<Wanted>("types::{pair}").is_err());
    }
}
