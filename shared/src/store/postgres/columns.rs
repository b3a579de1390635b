//! The parameters of a statement that takes many rows: one array per column.

use std::borrow::Cow;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::pool::{Parameter, Statement};
use super::value::{BoxedError, Moment};

/// A value in a column.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Number(i64),
    Moment(Moment),
    Bytes(&'a [u8]),
}

/// Rows, by columns. Every row has as many values as there are types, in the statement's order.
#[derive(Debug)]
pub(super) struct Columns<'a>(Vec<(Type, Vec<Cell<'a>>)>);

impl<'a> Columns<'a> {
    /// No rows yet; `types` are those of the arrays.
    pub(super) fn new<const N: usize>(types: [Type; N]) -> Columns<'a> {
        Columns(types.map(|array| (array, Vec::new())).into())
    }

    pub(super) fn push<const N: usize>(&mut self, row: [Cell<'a>; N]) {
        debug_assert_eq!(N, self.0.len(), "a row has a value for each column");
        for ((_, column), cell) in self.0.iter_mut().zip(row) {
            column.push(cell);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|(_, column)| column.is_empty())
    }

    pub(super) fn parameters(&self) -> Vec<Parameter<'_>> {
        self.0.iter().map(|(array, column)| (column as _, array.clone())).collect()
    }

    /// A statement that takes nothing else.
    pub(super) fn statement<'b>(&'b self, sql: &'b str) -> Statement<'b> {
        Statement { sql, parameters: self.parameters() }
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        match self {
            Cell::Null => Ok(IsNull::Yes),
            Cell::Text(text) => text.to_sql(kind, out),
            Cell::Number(number) => number.to_sql(kind, out),
            Cell::Moment(moment) => moment.to_sql(kind, out),
            Cell::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::TEXT, Type::INT8, Type::TIMESTAMPTZ, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

macro_rules! cells {
    ($($rust:ty: $cell:expr),+ $(,)?) => {$(
        impl<'a> From<$rust> for Cell<'a> {
            fn from(value: $rust) -> Cell<'a> {
                $cell(value.into())
            }
        }
    )+};
}

cells!(
    &'a str: Cell::Text, Cow<'a, str>: Cell::Text, String: Cell::Text, i64: Cell::Number,
    Moment: Cell::Moment,
);

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Cell<'a> {
        value.map_or(Cell::Null, T::into)
    }
}
