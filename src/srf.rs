//! Set-returning functions that answer rows of a table: the rows of a statement go straight into the result's
//! tuplestore (which spills to disk), so that a call for 100,000 recipients does not hold them all twice.

use pgrx::pg_sys;

/// The result of a set-returning function under construction.
pub struct Sink {
    store: *mut pg_sys::Tuplestorestate,
}

impl Sink {
    /// Prepares the result of the function being called.
    ///
    /// # Safety
    /// `fcinfo` must be the call information of a C function declared RETURNS SETOF a composite type.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: InitMaterializedSRF checks that the caller accepts a set and sets up resultinfo.
        unsafe {
            pg_sys::InitMaterializedSRF(fcinfo, 0);
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            Self { store: (*result).setResult }
        }
    }

    /// Adds a row of the function's row type; it is copied.
    ///
    /// # Safety
    /// `tuple` must be a valid heap tuple of the function's row type.
    pub unsafe fn put(&mut self, tuple: pg_sys::HeapTuple) {
        // SAFETY: the tuplestore belongs to the call that is still running.
        unsafe { pg_sys::tuplestore_puttuple(self.store, tuple) };
    }
}
