// How weights follow their gradients: one call over all weights, side by side in memory.
#pragma once

#include <cstddef>

namespace unrolled {

using Index = std::ptrdiff_t;

enum class Optimizer : int { sgd, momentum, nesterov, adagrad, adagrad_inside, rmsprop, adam, adamw, count };

// The letters of torch.optim; `step` counts from 1. What an optimiser has no use for is not read.
struct Rule {
  Optimizer kind;
  double lr, weight_decay, epsilon, momentum, beta1, beta2;  // beta2 is RMSprop's alpha
  double step;
};

// n weights, their gradients, and up to two numbers of memory for each (momentum or first moment, sum or
// mean of squares).
template <class T>
struct Update {
  Index n;
  T *weights, *gradients, *first, *second;
};

template <class T>
using UpdateFunction = void (*)(const Rule&, const Update<T>&);

}  // namespace unrolled
