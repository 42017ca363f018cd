//! Reads what is done with matrices.

use super::*;

impl Parser<'_> {
    /// The instruction with this name, if it makes a matrix.
    pub(super) fn matrix_instr(&mut self, mnemonic: &str) -> Result<Option<MatrixInstr>, ParseError> {
        Ok(Some(match mnemonic {
            "matrix_zero" => MatrixInstr::Zero { rows: self.rows()? },
            "matrix_load" => {
                let (buf, index, offset, stride) = self.place_with_stride()?;
                MatrixInstr::Load { buf, index, offset, stride, rows: self.rows()? }
            }
            "matrix_dot4" => {
                let [a, b, c] = self.exactly()?;
                MatrixInstr::Dot4 { a, b, c, rows: self.rows()? }
            }
            _ => return Ok(None),
        }))
    }

    /// A store, after its name.
    pub(super) fn matrix_store(&mut self) -> Result<MatrixStore, ParseError> {
        let (buf, index, offset, stride) = self.place_with_stride()?;
        self.t.expect(",")?;
        let value = self.value()?;
        let rows = self.rows()?;
        self.stored_type(value)?;
        Ok(MatrixStore { buf, index, offset, stride, value, rows })
    }

    /// `rows 16`.
    fn rows(&mut self) -> Result<u32, ParseError> {
        self.t.expect_word("rows")?;
        small(self.t)
    }

    fn place_with_stride(&mut self) -> Result<(Buf, Val, i64, Val), ParseError> {
        match self.place()? {
            (buf, index, offset, Some(stride)) => Ok((buf, index, offset, stride)),
            _ => self.t.error("this access takes a stride"),
        }
    }
}
