internal import Kernels

/// The few lines that Git LFS leaves in place of a large file until it is fetched.
///
/// Source: Git LFS's specification of pointer files, version 1.
enum FilePointer {
  private static let beginning = Array("version https://git-lfs.github.com/spec/".utf8)

  /// What such a file is and how to get the one that it stands for.
  static let reason = "a pointer of Git LFS in place of the file; fetch the file itself with 'git lfs pull'"

  /// Whether a file begins as such pointers do.
  static func isFound(_ bytes: some Collection<UInt8>) -> Bool { bytes.starts(with: beginning) }

  /// Refuses a pointer.
  static func refuse(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    guard !isFound(bytes.copy(0..<min(beginning.count, bytes.count))) else {
      throw .malformed(file: file, reason: reason)
    }
  }
}
