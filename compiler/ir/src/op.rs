//! What an op is: attributes, shape inference, reference evaluation, and how it is declared.
//!
//! [`op!`] declares a core op once; its struct, equality, hashing, text form and documentation row follow from that. The
//! list of ops is in [`crate::ops`].

use std::collections::BTreeMap;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::tensor::Tensor;
use crate::types::Type;
use crate::weights::WeightId;

/// An attribute value: what the text form prints and parses.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// `3`
    Int(i64),
    /// `0.5`
    Float(f64),
    /// `true`
    Bool(bool),
    /// `edge`: a word, or text in quotes.
    Str(String),
    /// `[1, 2]`
    Ints(Vec<i64>),
    /// `[N, 2*H + 1]`; lists of constants parse as `Ints`.
    Dims(Vec<Dim>),
    /// `[a, b]`
    Strs(Vec<String>),
    /// `[0.5, 1.0]`
    Floats(Vec<f64>),
}

/// Attributes by name.
pub type Attrs = BTreeMap<String, Attr>;

/// A Rust type that can be an attribute.
pub trait AttrValue: Sized {
    /// To an attribute.
    fn to_attr(&self) -> Attr;
    /// Back; none if the attribute has another type.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

/// A float that compares and hashes by its bits.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool { self.0.to_bits() == other.0.to_bits() }
}
impl Eq for Real {}
impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) { self.0.to_bits().hash(state) }
}

macro_rules! attr_value {
    ($ty:ty, $self:ident => $to:expr, $pattern:pat => $from:expr) => {
        impl AttrValue for $ty {
            fn to_attr(&self) -> Attr {
                let $self = self;
                $to
            }
            fn from_attr(attr: &Attr) -> Option<Self> {
                match attr {
                    $pattern => $from,
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        }
    };
}

attr_value!(i64, x => Attr::Int(*x), Attr::Int(x) => Some(*x));
attr_value!(usize, x => Attr::Int(*x as i64), Attr::Int(x) => usize::try_from(*x).ok());
attr_value!(bool, x => Attr::Bool(*x), Attr::Bool(x) => Some(*x));
attr_value!(DType, x => Attr::Str(x.name().into()), Attr::Str(s) => DType::from_name(s));
attr_value!(Vec<i64>, x => Attr::Ints(x.clone()), Attr::Ints(x) => Some(x.clone()));
attr_value!(Vec<usize>, x => Attr::Ints(x.iter().map(|&x| x as i64).collect()),
    Attr::Ints(x) => x.iter().map(|&x| usize::try_from(x).ok()).collect());
attr_value!(Vec<Symbol>, x => Attr::Strs(x.iter().map(|s| s.to_string()).collect()),
    Attr::Strs(x) => Some(x.iter().map(|s| s.as_str().into()).collect()));
// Only for hashing and generic tools: the text form writes the weight's name instead.
attr_value!(WeightId, x => Attr::Int(i64::from(x.0)), Attr::Int(x) => u32::try_from(*x).ok().map(WeightId));
attr_value!(Vec<Real>, x => Attr::Floats(x.iter().map(|x| x.0).collect()),
    Attr::Floats(x) => Some(x.iter().map(|&x| Real(x)).collect()));

impl AttrValue for Real {
    fn to_attr(&self) -> Attr { Attr::Float(self.0) }
    fn from_attr(attr: &Attr) -> Option<Real> {
        match attr {
            Attr::Float(x) => Some(Real(*x)),
            Attr::Int(x) => Some(Real(*x as f64)),
            _ => None,
        }
    }
}

impl AttrValue for Vec<Dim> {
    fn to_attr(&self) -> Attr { Attr::Dims(self.clone()) }
    fn from_attr(attr: &Attr) -> Option<Vec<Dim>> {
        match attr {
            Attr::Dims(x) => Some(x.clone()),
            Attr::Ints(x) => Some(x.iter().map(|&x| Dim::from(x)).collect()),
            Attr::Strs(x) => Some(x.iter().map(|s| Dim::sym(s)).collect()),
            _ => None,
        }
    }
}

/// Declares an attribute type that is one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $text:literal),* $(,)? }) => {
        crate::kernel::mnemonics! { $(#[$doc])* $name { $($(#[$vdoc])* $variant $text),* } }
        impl crate::op::AttrValue for $name {
            fn to_attr(&self) -> crate::op::Attr { crate::op::Attr::Str(self.name().into()) }
            fn from_attr(attr: &crate::op::Attr) -> Option<Self> {
                match attr { crate::op::Attr::Str(s) => $name::from_name(s), _ => None }
            }
        }
        impl crate::op::AttrValue for Vec<$name> {
            fn to_attr(&self) -> crate::op::Attr {
                crate::op::Attr::Strs(self.iter().map(|x| x.name().into()).collect())
            }
            fn from_attr(attr: &crate::op::Attr) -> Option<Self> {
                match attr {
                    crate::op::Attr::Strs(s) => s.iter().map(|s| $name::from_name(s)).collect(),
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use words;

/// What [`op!`] derives for every op.
pub trait OpDecl: Sized {
    /// Name in the text form.
    const MNEMONIC: &'static str;
    /// Documentation, as written at the declaration.
    const DOC: &'static str;
    /// Attributes in the order of the declaration.
    fn attrs(&self) -> Vec<(&'static str, Attr)>;
    /// Takes its attributes out of `attrs`.
    fn from_attrs(attrs: &mut Attrs) -> Result<Self, String>;
}

/// What every op file implements.
pub trait OpImpl {
    /// Types of the results, or what is wrong with the operands. Checks everything that can be checked without values.
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, InferError>;
    /// The meaning: results for concrete operands. Written to be read.
    fn eval(&self, inputs: &[Tensor], cx: &EvalCx) -> Result<Vec<Tensor>, EvalError>;
}

/// Declares a core op: its name in the text form, its struct and its attributes.
macro_rules! op {
    ($(#[doc = $doc:literal])* $text:literal => $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        #[allow(missing_docs)]
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }

        impl crate::op::OpDecl for $name {
            const MNEMONIC: &'static str = $text;
            const DOC: &'static str = concat!($($doc, "\n"),*);
            fn attrs(&self) -> Vec<(&'static str, crate::op::Attr)> {
                vec![$((stringify!($field), crate::op::AttrValue::to_attr(&self.$field))),*]
            }
            #[allow(unused_variables)]
            fn from_attrs(attrs: &mut crate::op::Attrs) -> Result<Self, String> {
                Ok($name { $($field: crate::op::take_attr(attrs, stringify!($field))?),* })
            }
        }
    };
}
pub(crate) use op;

/// Removes and converts one attribute.
pub fn take_attr<T: AttrValue>(attrs: &mut Attrs, name: &str) -> Result<T, String> {
    let attr = attrs.remove(name).ok_or_else(|| format!("attribute `{name}` is missing"))?;
    // An empty list has no type of its own.
    let empty = matches!(&attr, Attr::Ints(x) if x.is_empty());
    let candidates = if empty {
        vec![attr.clone(), Attr::Dims(vec![]), Attr::Strs(vec![]), Attr::Floats(vec![])]
    } else {
        vec![attr.clone()]
    };
    candidates.iter().find_map(T::from_attr).ok_or_else(|| format!("attribute `{name}` has the wrong type: {attr:?}"))
}

/// Operands that do not fit an op: lower case, no final stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InferError(pub String);

/// Why evaluation stopped: an index out of range, a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

/// What evaluation knows besides its operands.
pub struct EvalCx<'a> {
    /// Values of the symbols.
    pub symbols: &'a dyn Fn(&str) -> Option<i64>,
}

impl EvalCx<'_> {
    /// The value of a dim.
    pub fn dim(&self, d: &Dim) -> Result<i64, EvalError> {
        d.eval(self.symbols).ok_or_else(|| EvalError(format!("dim `{d}` has no value")))
    }

    /// The value of a dim that is a size.
    pub fn size(&self, d: &Dim) -> Result<usize, EvalError> {
        usize::try_from(self.dim(d)?).map_err(|_| EvalError(format!("dim `{d}` is negative")))
    }

    /// The values of the dims of a shape.
    pub fn shape(&self, dims: &[Dim]) -> Result<Vec<usize>, EvalError> { dims.iter().map(|d| self.size(d)).collect() }
}

/// Shorthand for an inference error.
macro_rules! bail {
    ($($arg:tt)*) => { return Err(crate::op::InferError(format!($($arg)*))) };
}
#[allow(unused_imports)]
pub(crate) use bail;

/// Checks the number of operands.
pub fn arity(inputs: &[Type], expected: usize) -> Result<(), InferError> {
    if inputs.len() != expected {
        bail!("{expected} operands expected, {} given", inputs.len());
    }
    Ok(())
}

/// The operands, if there are `N` of them and kernels can hold their element types.
pub fn operands<const N: usize>(inputs: &[Type]) -> Result<&[Type; N], InferError> {
    let Ok(operands) = <&[Type; N]>::try_from(inputs) else { bail!("takes {N} operands, not {}", inputs.len()) };
    inputs.iter().try_for_each(|t| check_kernel_dtype(t.dtype))?;
    Ok(operands)
}

/// Requires an element type that can be computed with.
pub fn check_kernel_dtype(dtype: DType) -> Result<(), InferError> {
    if !dtype.in_kernels() {
        bail!("element type {dtype} cannot be computed with");
    }
    Ok(())
}

/// Requires an axis to exist.
pub fn check_axis(axis: usize, rank: usize) -> Result<(), InferError> {
    if axis >= rank {
        bail!("axis {axis} is outside rank {rank}");
    }
    Ok(())
}

/// Requires dims to be sizes as far as they are known.
pub fn check_sizes(dims: &[Dim]) -> Result<(), InferError> {
    match dims.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
        Some(d) => bail!("size {d} is negative"),
        None => Ok(()),
    }
}

/// Requires an element type of an operand, `what`, as in "the indices".
pub fn check_dtype(what: &str, ty: &Type, dtype: DType) -> Result<(), InferError> {
    if ty.dtype != dtype {
        bail!("{what} must be {dtype}, not {}", ty.dtype);
    }
    Ok(())
}

/// The better known of two dims that have to be equal; none if they are different constants.
pub fn agree(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) if x != y => None,
        (None, Some(_)) => Some(b.clone()),
        _ => Some(a.clone()),
    }
}

/// Shorthands for the tests of ops.
#[cfg(test)]
pub mod testing {
    use super::EvalCx;
    use crate::ops::Op;
    use crate::tensor::Tensor;
    use crate::text::parse_type;
    use crate::types::Type;

    /// The types of the results for operands of these types, or what is wrong.
    pub fn infer(op: impl Into<Op>, operands: &[&str]) -> String {
        let types: Vec<Type> = operands.iter().map(|t| parse_type(t).expect("a type")).collect();
        match op.into().infer(&types) {
            Ok(types) => types.iter().map(Type::to_string).collect::<Vec<_>>().join(", "),
            Err(e) => e.to_string(),
        }
    }

    /// The only result; its type must be the inferred one.
    pub fn eval(op: impl Into<Op>, operands: &[Tensor]) -> Result<Tensor, String> {
        let op = op.into();
        let results = op.eval(operands, &EvalCx { symbols: &|_| None }).map_err(|e| e.to_string())?;
        let types: Vec<Type> = operands.iter().map(Tensor::ty).collect();
        let found: Vec<Type> = results.iter().map(Tensor::ty).collect();
        assert_eq!(Ok(found), op.infer(&types));
        results.into_iter().next().ok_or_else(|| "no result".into())
    }

    /// The f32 elements of the only result.
    pub fn eval_f32(op: impl Into<Op>, operands: &[Tensor]) -> Vec<f32> { eval(op, operands).expect("a result").to_f32() }

    /// The integer elements of the only result.
    pub fn eval_i64(op: impl Into<Op>, operands: &[Tensor]) -> Vec<i64> { eval(op, operands).expect("a result").to_i64() }

    /// A tensor of f32.
    pub fn f32s(shape: &[usize], elements: &[f32]) -> Tensor { Tensor::from_f32(shape.to_vec(), elements) }

    /// A tensor of i64.
    pub fn i64s(shape: &[usize], elements: &[i64]) -> Tensor { Tensor::from_i64(shape.to_vec(), elements) }
}
