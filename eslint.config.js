import tseslint from 'typescript-eslint'

/** Time, randomness and outside calls come in through Env (src/core/env.ts): this is what makes simulation possible. */
const ENV_ONLY = [
  { selector: "MemberExpression[object.name='Date'][property.name='now']", message: 'Use env.now() or env.monotonic().' },
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: 'Use new Date(env.now()).' },
  { selector: "MemberExpression[object.name='Math'][property.name='random']", message: 'Use env.random().' },
  { selector: "MemberExpression[object.name='performance'][property.name='now']", message: 'Use env.monotonic().' },
  { selector: "CallExpression[callee.name=/^(setTimeout|setInterval|setImmediate|fetch)$/]", message: 'Use env.timer(), env.sleep() or env.fetch().' },
  { selector: "CallExpression[callee.name=/^(randomUUID|randomBytes)$/]", message: 'Use env.uuid() or env.bytes().' },
  { selector: "MemberExpression[object.name='AbortSignal'][property.name='timeout']", message: 'Use env.timer() and an AbortController.' },
]

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', 'web/**/*.js', 'coverage/**'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ['eslint.config.js', 'scripts/*.mjs'] }, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/only-throw-error': 'error',
      'no-console': 'error',
      eqeqeq: 'error',
    },
  },
  { files: ['src/**/*.ts', 'simulators/**/*.ts', 'examples/*/src/**/*.ts'], ignores: ['**/*.test.ts', 'src/core/env.ts', 'src/testing/simulated-env.ts'], rules: { 'no-restricted-syntax': ['error', ...ENV_ONLY] } },
  { files: ['scripts/**', 'src/cli/**', 'examples/*/src/**/main.ts', 'examples/*/src/{drill,soak,crash,schedules,demo}/**', 'simulators/main.ts', 'test/**', '**/*.test.ts'], rules: { 'no-console': 'off' } },
  // What must not compile has no type; the rules about unsafe values would complain of the very point.
  { files: ['**/*types.test.ts'], rules: { '@typescript-eslint/no-unsafe-return': 'off', '@typescript-eslint/no-unsafe-assignment': 'off', '@typescript-eslint/no-unsafe-argument': 'off' } },
  { files: ['**/*.mjs', '**/*.js'], extends: [tseslint.configs.disableTypeChecked] },
)
