internal import COpenBLAS
internal import CQuantKernels

/// The library that multiplies many rows of floats, set up once for our use.
package enum OpenBLAS {
  /// The name of the kernels in use, such as `Haswell`.
  package static var coreName: String {
    prepare
    return unsafe String(cString: openblas_get_corename())
  }

  /// Such as `0.3.21`.
  package static var version: String {
    let words = unsafe String(cString: openblas_get_config()).split(separator: " ")
    return words.dropFirst().first.map(String.init) ?? ""
  }

  /// Single-threaded calls, as the workers own the cores, and the kernels that are fastest on this processor.
  ///
  /// OpenBLAS takes its Cooperlake kernels on AMD's Zen 4, where they reach 120 to 190 GFLOP/s and those for Haswell 200 to 209;
  /// on Zen 5 its own choice is the best (497 against 273, two threads). Which kernels run decides the last bits of results, so
  /// the rule is fixed by what was measured rather than measured anew at each start. A user's `OPENBLAS_CORETYPE` stands.
  static let prepare: Void = {
    openblas_set_num_threads(1)
    if pdrop_is_zen4() != 0 { unsafe _ = pdrop_openblas_choose("Haswell") }
  }()
}
