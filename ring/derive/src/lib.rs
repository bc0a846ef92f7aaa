//! `#[derive(Record)]` and `skeleton_records!`: the memory layout of structs, for mapring to compare with C's.
//! `#[derive(Tagged)]`: the variants of tagged records. The crate `mapring` exports all with its cargo feature `derive`.
#![forbid(unsafe_code)]

mod skeleton;
mod tagged;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, Data, DeriveInput, Error, Fields, parse_macro_input};

/// Implements `mapring::Record` for a struct with named fields, or for a `repr(transparent)` wrapper of a record. The
/// struct must be `repr(C)` and plain data (`bytemuck`'s derives), and its fields must be records. A field whose name
/// starts with `_` is padding, which is not compared.
#[proc_macro_derive(Record)]
pub fn record(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `mapring::tagged::Variants` for an enum of references to records, each with its tag.
#[proc_macro_derive(Tagged, attributes(tag))]
pub fn tagged(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    tagged::expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `Record` for a skeleton's structs: see `mapring::skeleton_records`.
#[proc_macro]
pub fn skeleton_records(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let wanted = parse_macro_input!(input as skeleton::Wanted);
    wanted.expand().unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let wrong = |why| Err(Error::new_spanned(&input.ident, why));
    let Data::Struct(data) = &input.data else {
        return wrong("only a struct is a record: any bytes are one");
    };
    if !input.generics.params.is_empty() {
        return wrong("a record has no parameters: C has none");
    }
    let name = &input.ident;
    let layout = match &data.fields {
        Fields::Named(fields) if has_repr(&input.attrs, "C") => {
            let fields = fields.named.iter().map(|field| {
                let (name, ty) = (&field.ident, &field.ty);
                let text = name.as_ref().map(|name| name.unraw().to_string());
                quote! {
                    ::mapring::record::Field {
                        name: #text,
                        offset: ::core::mem::offset_of!(Self, #name),
                        layout: <#ty as ::mapring::Record>::LAYOUT,
                    }
                }
            });
            quote!(::mapring::record::TypeLayout::Struct(::core::mem::size_of::<Self>(), &[#(#fields),*]))
        }
        Fields::Unnamed(fields) if has_repr(&input.attrs, "transparent") && fields.unnamed.len() == 1 => {
            let ty = fields.unnamed.first().map(|field| &field.ty);
            quote!(<#ty as ::mapring::Record>::LAYOUT)
        }
        Fields::Named(_) => return wrong("a record is laid out as in C: add #[repr(C)]"),
        _ => return wrong("a record has named fields, or is #[repr(transparent)] around another one"),
    };
    Ok(quote! {
        #[automatically_derived]
        impl ::mapring::Record for #name {
            const LAYOUT: ::mapring::record::TypeLayout = #layout;
        }
    })
}

/// Whether a `repr` attribute contains `wanted`.
fn has_repr(attributes: &[Attribute], wanted: &str) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("repr")).any(|attribute| {
        let mut found = false;
        // rustc checks the rest of the attribute.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident(wanted);
            Ok(())
        });
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(input: &str) -> String {
        expand(&syn::parse_str(input).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_record_is_told_why() {
        assert!(refused("struct A { a: u8 }").contains("#[repr(C)]"));
        assert!(refused("#[repr(C)] struct A<T> { a: T }").contains("parameters"));
        assert!(refused("#[repr(C)] struct A(u8);").contains("repr(transparent)"));
        assert!(refused("#[repr(C)] struct A;").contains("named fields"));
        assert!(refused("#[repr(u8)] enum A { B }").contains("only a struct"));
    }

    #[test]
    fn names_are_those_of_c() {
        let code = expand(&syn::parse_str("#[repr(C, align(8))] struct A { r#type: u8, next: B }").unwrap());
        let code = code.unwrap().to_string();
        assert!(code.contains("name : \"type\"") && code.contains("< B as :: mapring :: Record > :: LAYOUT"));
    }
}
