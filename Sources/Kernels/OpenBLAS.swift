import CKernels
import COpenBLAS
import Dispatch
import Storage

/// The OpenBLAS library for f32 matmuls of many rows, loaded at first use with one thread per call, because our workers
/// use all cores.
@safe package struct OpenBLAS: Sendable {
  /// The version, such as `0.3.21`.
  package let version: String
  /// The name of the selected kernels, such as `Haswell`.
  package let coreName: String
  /// Permits for concurrent calls, each of which needs working memory; `nil` without a limit on address space.
  private let permits: DispatchSemaphore?

  /// Why the library cannot be used.
  package enum Absence: Sendable {
    case notInstalled
    /// The limit on address space is too low.
    case addressSpace
  }

  /// The library of this machine, or why there is none.
  package static let current = loaded()

  private init(permits: DispatchSemaphore?) {
    let words = unsafe String(cString: pdrop_openblas_configuration()).split(separator: " ")
    version = words.dropFirst().first.map(String.init) ?? ""
    coreName = unsafe String(cString: pdrop_openblas_core())
    self.permits = permits
  }

  /// Under a limit on address space, at most half of it goes to the working memory of concurrent calls. That depends on
  /// the limit alone, and not on the number of threads, so that results do not depend on it either.
  private static func loaded() -> Result<OpenBLAS, Absence> {
    guard let limit = AddressSpace.limit else {
      return pdrop_openblas_load() ? .success(selected(permits: nil)) : .failure(.notInstalled)
    }
    let perCall = Int(PDROP_OPENBLAS_CALL_BYTES)
    let calls = min(SystemProcessors.available, (limit / 2 - Int(PDROP_OPENBLAS_LIBRARY_BYTES)) / perCall)
    guard AddressSpace.allowsLibraries, calls > 0,
      AddressSpace.hasRoom(for: Int(PDROP_OPENBLAS_LIBRARY_BYTES) + calls * perCall)
    else { return .failure(.addressSpace) }
    guard pdrop_openblas_load() else { return .failure(.notInstalled) }
    guard pdrop_openblas_reserve(Int32(calls)) else { return .failure(.addressSpace) }
    return .success(selected(permits: DispatchSemaphore(value: calls)))
  }

  /// The library with its fastest kernels.
  ///
  /// On AMD Zen 4, OpenBLAS selects its Cooperlake kernels, which reach 120 to 190 GFLOP/s; its Haswell kernels reach
  /// 200 to 209. On Zen 5 its own selection is the fastest (497 against 273, two threads). On processors that are newer
  /// than the library, it selects its Prescott kernels, without AVX: 44 to 56 GFLOP/s on an Emerald Rapids, where its
  /// SkylakeX kernels reach 232 to 322, Cooperlake 247 to 336 and Haswell 162 to 185 (0.3.21, two threads).
  ///
  /// The kernels decide the last bits of results, so the rule is fixed by these measurements and not measured at each
  /// start. `OPENBLAS_CORETYPE`, if set, takes precedence.
  private static func selected(permits: DispatchSemaphore?) -> OpenBLAS {
    let library = OpenBLAS(permits: permits)
    let core: String? =
      if pdrop_is_zen4() {
        "Haswell"
      } else if library.coreName == "Prescott" {
        InstructionSet.detected >= .avx512 ? "SkylakeX" : InstructionSet.detected >= .avx2 ? "Haswell" : nil
      } else {
        nil
      }
    guard let core, unsafe pdrop_openblas_choose(core) else { return library }
    return OpenBLAS(permits: permits)
  }

  /// A matmul of a panel with `weights`, `[outputs, inputs]`.
  func sgemm(
    _ panel: MatmulPanel, _ x: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, inputs: Int
  ) {
    withPermit {
      unsafe pdrop_openblas_sgemm(
        x, Int32(panel.rows), weights, Int32(inputs), Int32(panel.columns.count), panel.base, Int32(panel.stride),
        panel.accumulates)
    }
  }

  /// `y = scale · a · x` for a matrix `a`, `[rows, columns]`, whose rows are `stride` elements apart.
  func sgemv(
    _ y: UnsafeMutablePointer<Float>, scale: Float, _ a: UnsafePointer<Float>, rows: Int, columns: Int, stride: Int,
    _ x: UnsafePointer<Float>
  ) {
    withPermit { unsafe pdrop_openblas_sgemv(scale, a, Int32(rows), Int32(columns), Int32(stride), x, y) }
  }

  private func withPermit(_ body: () -> Void) {
    guard let permits else { return body() }
    permits.wait()
    body()
    permits.signal()
  }
}

extension OpenBLAS.Absence: Error, CustomStringConvertible {
  package var description: String {
    switch self {
    case .notInstalled: "no OpenBLAS"
    case .addressSpace: "too little address space for OpenBLAS, see ulimit -v"
    }
  }
}
