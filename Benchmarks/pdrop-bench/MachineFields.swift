import BenchSupport
import Kernels

extension Limits {
  /// What every record says about the machine that it was measured on.
  func fields(_ machine: Machine) -> [Field] {
    [
      Field("limits", .text(description), .note(heading: "limits")),
      Field("build_commit", .text(machine.commit), .note(heading: "commit")),
      Field("cpu_info", .text(machine.processor), .note(heading: "cpu")),
      Field("libraries", .text(libraries), .note(heading: "libraries")),
    ]
  }

  /// Versions of what multiplies, and the instructions that our own kernels use.
  private var libraries: String {
    let oneDNN = Processor.current.oneDNN.map { "oneDNN \($0.version)" } ?? "no oneDNN"
    return
      "OpenBLAS \(OpenBLAS.version) (\(OpenBLAS.coreName)), \(oneDNN); own kernels in \(Processor.current.instructions)"
  }
}
