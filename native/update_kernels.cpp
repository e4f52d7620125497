// The optimisers for one instruction set. Plain loops: the compiler makes vectors of them.
#include <cmath>

#include "kernels_isa.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

template <class T, class Change>
void each(const Rule& rule, const Update<T>& u, Change change) {
  const T decay = T(rule.weight_decay);
  T* __restrict w = u.weights;
  const T* __restrict g = u.gradients;
  for (Index i = 0; i < u.n; ++i) w[i] -= change(g[i] + decay * w[i], i);
}

template <class T>
void update(const Rule& rule, const Update<T>& u) {
  const T lr = T(rule.lr), eps = T(rule.epsilon), momentum = T(rule.momentum);
  const T beta2 = T(rule.beta2), rest1 = T(1 - rule.beta1), rest2 = T(1 - rule.beta2);
  T* __restrict m = u.first;
  T* __restrict v = u.second;
  switch (rule.kind) {
    case Optimizer::sgd:
      return each(rule, u, [=](T g, Index) { return lr * g; });
    case Optimizer::momentum:
      return each(rule, u, [=](T g, Index i) { return lr * (m[i] = momentum * m[i] + g); });
    case Optimizer::nesterov:
      return each(rule, u, [=](T g, Index i) {
        m[i] = momentum * m[i] + g;
        return lr * (g + momentum * m[i]);
      });
    case Optimizer::adagrad:
      return each(rule, u, [=](T g, Index i) {
        v[i] += g * g;
        return lr * g / (std::sqrt(v[i]) + eps);
      });
    case Optimizer::adagrad_inside:
      return each(rule, u, [=](T g, Index i) {
        v[i] += g * g;
        return lr * g / std::sqrt(v[i] + eps);
      });
    case Optimizer::rmsprop:
      return each(rule, u, [=](T g, Index i) {
        v[i] = beta2 * v[i] + rest2 * g * g;
        return lr * g / (std::sqrt(v[i]) + eps);
      });
    case Optimizer::adam:
    case Optimizer::adamw: {
      const double ahead = 1 - std::pow(rule.beta1, rule.step);
      const T root = T(std::sqrt(1 - std::pow(rule.beta2, rule.step))), rate = T(rule.lr / ahead);
      Rule plain = rule;
      if (rule.kind == Optimizer::adamw) {
        const T shrink = T(1 - rule.lr * rule.weight_decay);
        for (Index i = 0; i < u.n; ++i) u.weights[i] *= shrink;
        plain.weight_decay = 0;
      }
      return each(plain, u, [=](T g, Index i) {
        m[i] += (g - m[i]) * rest1;
        v[i] = beta2 * v[i] + rest2 * g * g;
        return rate * (m[i] / (std::sqrt(v[i]) / root + eps));
      });
    }
    case Optimizer::count: break;
  }
}

}  // namespace

void fill_updates(Updates& table) {
  table.f32 = update<float>;
  table.f64 = update<double>;
}

}  // namespace unrolled::UNROLLED_ISA
