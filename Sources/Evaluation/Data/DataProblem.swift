/// What is wrong with a benchmark's file, and where.
package struct DataProblem: Error, Equatable, CustomStringConvertible {
  package let path: String
  /// Such as `line 3` or `data[17]`; `nil` for the file as a whole.
  package let place: String?
  package let reason: String

  package init(_ path: String, at place: String? = nil, _ reason: String) {
    (self.path, self.place, self.reason) = (path, place, reason)
  }

  package var description: String { path + (place.map { ", " + $0 } ?? "") + ": " + reason }
}
