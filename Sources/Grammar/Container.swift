/// A value of an answer: a terminal, or an object or array.
enum Value: Hashable {
  case terminal(Int)
  case container(Int)
}

/// An object or array with the values that its members or items may have.
enum Container {
  struct Property {
    var key: String
    var isRequired: Bool
    var values: [Value]
  }

  /// Members in this order.
  case object([Property])
  /// Members with any keys.
  case map([Value])
  /// - Parameter maximum: nil for no limit.
  case array([Value], minimum: Int, maximum: Int?)
}
