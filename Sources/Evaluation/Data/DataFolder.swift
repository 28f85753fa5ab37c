internal import Foundation

/// The folder of all benchmarks, laid out as LLaVA's `playground/data/eval`.
package struct DataFolder: Sendable {
  package let path: String

  package init(_ path: String) { self.path = path }

  /// The path of a file or folder in it.
  package func path(_ name: String) -> String { path + "/" + name }

  package func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path(name)) }
}

/// A file or folder that a benchmark looks for.
package struct DataFile: Sendable, Equatable {
  package enum Role: Sendable { case questions, pictures, truth }

  /// Below the folder of all benchmarks.
  package let path: String
  /// What it is for; a table of questions is often truth and pictures as well.
  package let roles: Set<Role>

  init(_ path: String, _ roles: Role...) { (self.path, self.roles) = (path, Set(roles)) }
}
